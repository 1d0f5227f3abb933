"""The only package that knows the files of a run: its paths, its manifest, how they are written and read.

    RUN/run.json                                                  the manifest
    RUN/lanes.json                                                what each lane of the run under way does or waits for
    RUN/answers/model_folder=m-<m>/*.parquet                      one row per ask, as soon as it exists
    RUN/rows/reader_folder=r-<r>/model_folder=m-<m>/*.parquet     the scored rows
    RUN/tabs/                                                     what each actor may have spent (`tabs.py`)
    RUN/torn/                                                     what could not be read, for whoever wants to look
    RUN/report/

on any filesystem that pyarrow knows. Models and readers stand in the rows. The folders are Hive partitions, since Spark
looks into no others, but of columns that no row has and by values that look like no number and no date: readers that
know Hive partitions guess the types of what stands in a path, take it instead of the rows' own, and stumble where the
two differ. So they did over `model=<m>`, as folders were once called; a run keeps the names that it began with.

Three rules hold everything together:

* a file under its real name is whole (`put`), and never changes; names that begin with `.` or `_` do not count;
* a file that takes the place of others names them in its metadata, so that from the moment it exists they are
  ignored, whether or not anybody lived long enough to delete them;
* a key may occur in several rows (a crash, a second worker): on reading one counts, an answer before a failure,
  the first durable answer, the last failure. Files sort by the time they were begun, merged ones remember the
  times of their parts, compacted ones come first: who won once wins for ever.

Reading never writes. What cannot be read is skipped with a warning, and its cells are owed again; `Partition.repair`
sets it aside.
"""
