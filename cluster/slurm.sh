#!/usr/bin/env bash
#SBATCH --job-name=emoray
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --gpus-per-node=4
#SBATCH --time=12:00:00
#SBATCH --signal=B:USR1@600
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=emoray-%j.log
# A head and workers in one allocation, and a run on them. From the checkout, on a disk that all nodes share:
#   sbatch cluster/slurm.sh jobs/paper.yaml --out /scratch/$USER/runs/paper
#
# Ten minutes before its time is up (USR1) the run stops asking, receives what is in flight, and the job is queued
# again: it goes on where it stopped. To end it like that at any time, and for good:
#   scancel --batch --signal=TERM JOB
# `scancel JOB` alone, and preemption, tell every process at once, and srun then kills Ray on all nodes before KillWait is
# over: what was in flight is asked again by the next run. Slurm itself queues again what it preempts; where it sends
# USR1 first (PreemptParameters=send_user_signal) nothing is lost. The keys of the shell that called sbatch are those
# that the run has.
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}" # Slurm runs a copy of this file from elsewhere
umask 077

fail() {
  echo "slurm.sh: $1" >&2
  exit 2
}
[ -n "${SLURM_JOB_NODELIST:-}" ] || fail "runs inside an allocation: sbatch cluster/slurm.sh SPEC --out RUN"
[ -f jobs/run.py ] || fail "$PWD is not the checkout: call sbatch from there"
[ $# -ge 1 ] || fail "names no spec: sbatch cluster/slurm.sh SPEC --out RUN"

PATH="$PWD/.venv/bin:$PATH"
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))') # of this allocation; srun hands it on
export PATH RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]} # where this script runs
port=$((20000 + SLURM_JOB_ID % 10000 * 2)) # and the next: two allocations may share a node
ip=${HEAD_IP:-$(srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap hostname --ip-address | awk '{ print $1 }')}
export RAY_ADDRESS="$ip:$port"
steps=()
run=
stopping=no
again=no
# shellcheck disable=SC2329 # by the traps
stop() {
  stopping=yes
  told=yes
  if [ -n "$run" ]; then kill -TERM "$run" 2>/dev/null || true; fi
}
trap 'again=yes; stop' USR1
trap stop TERM
trap 'kill -TERM "${steps[@]}" 2>/dev/null || true' EXIT

srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap \
  ray start --head --block --disable-usage-stats --node-ip-address="$ip" --port="$port" \
  --include-dashboard=false --ray-client-server-port=$((port + 1)) --temp-dir="/tmp/emoray-$SLURM_JOB_ID" &
steps+=($!)
workers=$((${#nodes[@]} - 1))
if [ "$workers" -gt 0 ]; then
  python jobs/await_nodes.py 1 # a worker that comes before the head gives up
  srun --nodes="$workers" --ntasks="$workers" --exclude="$head" --overlap \
    ray start --block --disable-usage-stats --address="$RAY_ADDRESS" &
  steps+=($!)
fi
python jobs/await_nodes.py "${#nodes[@]}"

code=130
if [ "$stopping" = no ]; then
  python jobs/run.py "$@" &
  run=$!
  if [ "$stopping" = yes ]; then stop; fi # it came between these lines
  told=yes
  while [ "$told" = yes ]; do # a signal ends `wait`, and not the run
    told=no
    code=0
    wait "$run" || code=$?
  done
fi
case "$code" in
  0 | 2 | 3) again=no ;; # it ended by itself; told before its lanes were up it ends with 143 instead of 130
esac
if [ "$again" = yes ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
