"""The spec: what it may say, and the one sentence that each mistake gets."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from emoray.run_folder import manifest
from emoray.scheduling.demand import demand
from emoray.scheduling.packing import FreeResources, seated
from emoray.scheduling.refusal import refusal
from emoray.scheduling.resources import Node
from emoray.spec.base import SpecError
from emoray.spec.document import Spec, json_schema
from emoray.spec.load import load, parse
from emoray.spec.models import Embedded, Hosted, Local, Scripted, Vllm
from emoray.spec.readers import JudgeReader, readers_of, reads_as
from emoray.spec.study import Study
from emoray.study import prompts as texts
from emoray.study.conditions import Condition
from emoray.study.goemotions import LABELS
from emoray.study.prompts import prompts
from tests.programs import ROOT

JOBS = ROOT / "jobs"
SHIPPED = sorted([*JOBS.glob("*.yaml"), *(JOBS / "experiments").glob("*.yaml")])


TAGS = "models[0].reasoning_tags: must be known, none, or two different tags such as ['<think>', '</think>'], got "
HOSTS = "embedded, transformers, vllm, hosted_api, batch_api, scripted"
KINDS = "goemotions, regressor, judge, scripted"
NAME = "up to 64 letters, digits, spaces and . _ + - (80 bytes of UTF-8), first a letter or digit"
READER = "readers: [{kind: scripted, name: r}]\n"
BASE = "name: t\nmodels: [{name: a, host: scripted}]\n" + READER
NETWORK = "name: t\nmodels: [{name: a, host: scripted}]\nreaders: [{kind: goemotions, name: r, "
ACCOUNT = "accounts: {openai: {key_env: OPENAI_API_KEY}}\n"
HOSTED = f"name: t\n{ACCOUNT}models: [{{name: a, host: hosted_api, id: x, account: openai"


def models(*entries: str) -> str:
    return f"name: t\nmodels: [{', '.join(entries)}]\n"


JUDGED = models("{name: a, host: scripted}") + (
    "readers: [{kind: judge, name: j, rubric: %s, model: {name: m, host: scripted}}]"
)


def study(text: str, *changes: str, folder: Path = Path()) -> Study:
    return parse(text, source="my.yaml", folder=folder, changes=changes)


def complaint(text: str, *changes: str, folder: Path = Path()) -> str:
    with pytest.raises(SpecError) as told:
        study(text, *changes, folder=folder)
    return str(told.value)


def keys(text: str) -> set[str]:
    found = study(text)
    return {p.key for model in found.experiment.models for p in prompts(found.experiment.grid(model.name))}


MISTAKES: dict[str, tuple[str, str]] = {
    # ── as others write it ──
    "a number with a zero before it": (
        BASE + "repetitions: 010",
        "line 4: '010' would be read as octal; write it without zeros before it, or in quotes as a text",
    ),
    "a time where a number belongs": (
        BASE + "repetitions: 1:30",
        "repetitions must be a whole number, got '1:30'",
    ),
    "a rate that is a time": (
        HOSTED.replace("key_env", "requests_per_minute: 1:30.5, key_env") + "}]",
        "accounts.openai.requests_per_minute must be a number, got something else",
    ),
    "a time without a clock": (
        models("{name: a, host: scripted, deadline: 25:00}"),
        'models[0].deadline must be a time from the start (90min, 6h) or on the clock in quotes ("07:00"), got '
        "'25:00'",
    ),
    "a decimal comma": (
        BASE + "sampling: {temperature: 0,7}",
        "line 4: the name of a setting must be text, got '7'; a number has no comma: a point where others have one, "
        "and nothing between thousands",
    ),
    "a tag": (BASE + "repetitions: !three 3", "line 4: the tag '!three' means nothing here; leave it out"),
    "a way of drawing that is not asked for": (
        BASE + "sampling: {top_k: 5}",
        "sampling.top_k is not a setting; a model of your own has it with sampling_defaults: model, a hosted one in "
        "its extra_body",
    ),
    "a question under its own name": (
        BASE + "questions: [{id: a, question: 'Why?'}]",
        "questions[0].question is not a setting; did you mean 'text'?",
    ),
    "GPUs of an engine": (
        models("{name: a, host: vllm, id: x, gpus: 2}"),
        "models[0].gpus is not a setting; did you mean 'tensor_parallel_size'?",
    ),
    "thinking": (
        models("{name: a, host: vllm, id: x, enable_thinking: false}"),
        "models[0].enable_thinking is not a setting; did you mean 'chat_template_kwargs'?",
    ),
    "a reader's device": (NETWORK + "device: cuda}]", "readers[0].device is not a setting; did you mean 'gpus'?"),
    "no host at all": (
        models("{name: a, host: null}"),
        "models[0] needs host: one of embedded, transformers, vllm, hosted_api, batch_api, scripted",
    ),
    "several terms in one text": (BASE + "states: happy, sad", "states: 'happy, sad' is one text; write [happy, sad]"),
    "fields as Jinja writes them": (
        BASE + "templates: [{name: x, user: '{{ question }}'}]",
        "template 'x' never asks: {question} is in neither its system nor its user text; {{question}} is the word in "
        "braces, write {question}",
    ),
    "an address that goes on": (
        HOSTED.replace("key_env", "base_url: 'https://x.example/v1?api-key=s3cret', key_env") + "}]",
        "accounts.openai.base_url: goes on after its path (?… or #…); leave that out, and put a key into the variable "
        "of key_env",
    ),
    "an Azure account that does not say where": (
        HOSTED.replace("key_env", "kind: azure, api_version: '2024-10-21', key_env") + "}]",
        "accounts.openai.base_url is missing; Azure's is https://<resource>.openai.azure.com",
    ),
    # ── unknown, missing, twice ──
    "a misspelt setting": (BASE + "repetition: 3", "repetition is not a setting; did you mean 'repetitions'?"),
    "a setting that is like no other": (
        BASE + "wibble: 3",
        "wibble is not a setting; there are name, models, accounts, states, intensities, templates, questions, "
        "repetitions, canaries, sampling, readers, headline, label_map, neutral, refusals, contrasts, seed, retry, "
        "budget_usd",
    ),
    "a misspelt setting of sampling": (
        BASE + "sampling: {temprature: 1}",
        "sampling.temprature is not a setting; did you mean 'temperature'?",
    ),
    "a misspelt setting of a model": (
        models("{name: a, host: transformers, id: x, batchsize: 3}"),
        "models[0].batchsize is not a setting; did you mean 'batch_size'?",
    ),
    "a setting of another host": (
        models("{name: a, host: scripted}", "{name: b, host: scripted, tensor_parallel_size: 2}"),
        "models[1].tensor_parallel_size is not a setting of this host; it is one of vllm",
    ),
    "a setting of sampling on its own": (
        BASE + "temperature: 1",
        "temperature is not a setting; did you mean 'sampling.temperature'?",
    ),
    "another, misspelt": (BASE + "max_tokenz: 1", "max_tokenz is not a setting; did you mean 'sampling.max_tokens'?"),
    "a setting of sampling beside it": (
        models("{name: a, host: scripted, top_p: 1}"),
        "models[0].top_p is not a setting; did you mean 'models[0].sampling.top_p'?",
    ),
    "a setting of sampling beside it, of a judge": (
        models("{name: a, host: scripted}")
        + "readers: [{kind: judge, name: j, model: {name: m, host: scripted, max_tokens: 9}}]",
        "readers[0].model.max_tokens is not a setting; did you mean 'readers[0].model.sampling.max_tokens'?",
    ),
    "a setting of the spec in a model": (
        models("{name: a, host: scripted, repetitions: 2}"),
        "models[0].repetitions is not a setting here; repetitions stands at the top of the spec",
    ),
    "a seed for sampling": (
        BASE + "sampling: {seed: 1}",
        "sampling.seed is not a setting here; seed stands at the top of the spec",
    ),
    "a setting of an account in a model": (
        HOSTED + ", base_url: 'http://x'}]",
        "models[0].base_url is not a setting; did you mean 'accounts.<name>.base_url'?",
    ),
    "a limit of an account on its own": (
        BASE + "requests_per_minute: 5",
        "requests_per_minute is not a setting; did you mean 'accounts.<name>.requests_per_minute'?",
    ),
    "a setting of another reader": (
        NETWORK + "range: [0, 1]}]",
        "readers[0].range is not a setting of this kind; it is one of regressor",
    ),
    "hosts": (BASE + "hosts: [openai]", "hosts is not a setting; did you mean 'models[…].host'?"),
    "one model": (BASE.replace("models:", "model:"), "model is not a setting; did you mean 'models'?"),
    "an id by another name": (
        models("{name: a, host: vllm, model: x}"),
        "models[0].model is not a setting; did you mean 'id'?",
    ),
    "another name, misspelt": (
        models("{name: a, host: vllm, modle: x}"),
        "models[0].modle is not a setting; did you mean 'id'?",
    ),
    "emotions": (BASE + "emotions: [happy]", "emotions is not a setting; did you mean 'states'?"),
    "a key by another name": (
        BASE + "accounts: {o: {api_key: sk-1}}",
        "accounts.o.api_key is not a setting; did you mean 'key_env'?",
    ),
    "a misspelt setting that is required": (
        BASE + "states: [{valence: 1, arousl: 1}]",
        "states[0].arousl is not a setting; did you mean 'arousal'?",
    ),
    "no name": ("models: [{name: a, host: scripted}]", "name is missing"),
    "no models": ("name: t", "models is missing; name some, or give a file of them with --models"),
    "no id": (models("{name: a, host: vllm}"), "models[0].id is missing"),
    "half a state": (BASE + "states: [{valence: 1}]", "states[0].arousal is missing"),
    "half a price": (HOSTED + ", usd_per_million: {input: 1}}]", "models[0].usd_per_million.output is missing"),
    "a model twice": (
        models("{name: a, host: scripted}", "{name: a, host: embedded}"),
        "models has 'a' twice; give each its own name",
    ),
    "a reader twice": (
        models("{name: a, host: scripted}") + "readers: [{kind: scripted, name: r}, {kind: scripted, name: r}]",
        "readers has 'r' twice; give each its own name",
    ),
    "a setting twice": (BASE + "name: u", "line 4: 'name' is written twice; keep one"),
    "a state twice": (
        BASE + "states: [0, 90, 360]",
        "states has 'valence 1, arousal 0' twice; every cell of the grid must be asked once",
    ),
    "a state that is another at half intensity": (
        BASE + "states: [{valence: 1, arousal: 0}, {valence: 0.4, arousal: 0}]",
        "states has valence 1, arousal 0 and valence 0.4, arousal 0, which differ in length alone, but tables tell "
        "states apart by direction; keep one, and give the lengths as intensities",
    ),
    "a state that is an angle at half intensity": (
        BASE + "states: [180, -90, {valence: 0, arousal: -0.5}]",
        "states has valence 0, arousal -1 and valence 0, arousal -0.5, which differ in length alone, but tables tell "
        "states apart by direction; keep one, and give the lengths as intensities",
    ),
    "two intensities that no key tells apart": (
        BASE + "states: [0]\nintensities: [0.5, 0.50000000001]",
        "states × intensities has 'valence 0.5, arousal 0' twice; every cell of the grid must be asked once",
    ),
    "an intensity twice": (
        BASE + "intensities: [0.5, 0.5]",
        "intensities has 0.5 twice; every cell of the grid must be asked once",
    ),
    "a question twice": (
        BASE + "questions: [all, art]",
        "questions has 'art' twice; every cell of the grid must be asked once",
    ),
    "a question twice under two names": (
        BASE + "questions: [freedom, {id: mine, text: 'What does freedom mean to you?'}]",
        "questions has 'What does freedom mean to you?' twice; every cell of the grid must be asked once",
    ),
    "a template twice": (
        BASE + "templates: [words, words]",
        "templates has 'words' twice; every cell of the grid must be asked once",
    ),
    # ── beyond what can be counted, stored or sent ──
    "a number beyond 64 bits": (
        BASE + "repetitions: 99999999999999999999",
        "line 4: '99999999999999999999' is beyond 64 bits; write a smaller number, or in quotes if it is a text",
    ),
    "one below them": (
        BASE + "seed: -9223372036854775809",
        "line 4: '-9223372036854775809' is beyond 64 bits; write a smaller number, or in quotes if it is a text",
    ),
    "one that Python itself does not read": (
        BASE + f"repetitions: {'9' * 5000}",
        f"line 4: '{'9' * 40}…' is beyond 64 bits; write a smaller number, or in quotes if it is a text",
    ),
    "one in hexadecimal": (
        BASE + f"seed: 0x{'f' * 17}",
        f"line 4: '0x{'f' * 17}' is beyond 64 bits; write a smaller number, or in quotes if it is a text",
    ),
    "one inside what a provider gets": (
        HOSTED + ", extra_body: {a: [1, {b: 18446744073709551616}]}}]",
        "line 3: '18446744073709551616' is beyond 64 bits; write a smaller number, or in quotes if it is a text",
    ),
    "a seed of 64 bits": (
        BASE + "seed: 18446744073709551615",
        "seed must be less than 9,223,372,036,854,775,808, got 18446744073709551615",
    ),
    "more states than a circle can tell apart": (
        BASE + "states: 1000000000",
        "states must be at most 3,600, got 1000000000",
    ),
    "a list of as many": (
        BASE + f"states: [{', '.join(map(str, range(3601)))}]",
        "states must have at most 3,600, got 3,601",
    ),
    "too many repetitions": (
        BASE + "repetitions: 10000000000",
        "repetitions must be at most 1,000,000,000, got 10000000000",
    ),
    "too many actors": (
        models("{name: a, host: scripted, actors: 2147483647}"),
        "models[0].actors must be at most 10,000, got 2147483647",
    ),
    "too many places": (
        models("{name: a, host: scripted, in_flight: 1000000001}"),
        "models[0].in_flight must be at most 1,000,000, got 1000000001",
    ),
    "more canaries than cells": (
        BASE + "repetitions: 1000000000\ncanaries: {every: 1, prompts: 1000}",
        "14,520,000,000,120 cells are asked of each model, at most 1,000,000,000,000 can be; ask canaries less often",
    ),
    "more prompts than can be ordered": (
        BASE + f"states: 3600\nintensities: [{', '.join(str(i / 1000) for i in range(1, 1001))}]",
        "templates × states × intensities × questions are 36,000,000 prompts, at most 10,000,000 can be put in order; "
        "take fewer",
    ),
    "half a character": (
        BASE + 'questions: [{id: a, text: "Why\\ud83d?"}]',
        "line 4: \\ud83d is half a character, which no file can bear; write the whole character",
    ),
    "the other half": (
        BASE + 'questions: [{id: a, text: "\\ude00\\ud83d?"}]',
        "line 4: \\ude00 is half a character, which no file can bear; write the whole character",
    ),
    "half a character in a name of a setting": (
        BASE + '"\\ud800": 3',
        "line 4: \\ud800 is half a character, which no file can bear; write the whole character",
    ),
    "a NUL in a path": (
        BASE + 'label_map: "a\\0b.yaml"',
        "line 4: a text holds NUL (\\0), which no file can bear; leave it out",
    ),
    "brackets without end": (
        BASE + "states: " + "[" * 5000,
        "line 4: lists and sections stand in one another more than 64 deep; write it flatter",
    ),
    "sections without end": (
        BASE + "".join(f"{' ' * deep}a:\n" for deep in range(100)),
        "line 67: lists and sections stand in one another more than 64 deep; write it flatter",
    ),
    "an anchor inside itself": (BASE + "states: &a [*a]", "line 4: an anchor holds itself; write it out"),
    "a billion laughs": (
        BASE + "a0: &a0 [ha]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)),
        "line 10: this unfolds to more than 1,000,000 values; write less",
    ),
    "laughs that are merged": (
        BASE
        + "a0: &a0 {ha: 1}\n"
        + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 10)),
        "line 10: this unfolds to more than 1,000,000 values; write less",
    ),
    "anchors one in another": (
        BASE + "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 100)),
        "line 68: lists and sections stand in one another more than 64 deep; write it flatter",
    ),
    "no number to a provider": (
        HOSTED + ", extra_body: {a: [.nan]}}]",
        "models[0].extra_body.a[0] must be a number, got nan",
    ),
    "a temperature without end": (
        BASE + "sampling: {temperature: 1.0e+400}",
        "sampling.temperature must be a number, got inf",
    ),
    # ── numbers ──
    "thousands by a letter": (
        BASE + "accounts: {o: {requests_per_minute: 10k}}",
        "accounts.o.requests_per_minute must be a number, got '10k'; write 10000",
    ),
    "thousands by a comma": (
        BASE + "accounts: {o: {tokens_per_minute: '30,000'}}",
        "accounts.o.tokens_per_minute must be a number, got '30,000'; write 30000, or 30 if its comma is a decimal one",
    ),
    "millions": (BASE + "repetitions: 1.5M", "repetitions must be a whole number, got '1.5M'; write 1500000"),
    "an exponent": (BASE + "budget_usd: 1e2", "budget_usd must be a number, got '1e2'; write 100"),
    "dollars": (BASE + "budget_usd: $20", "budget_usd must be a number, got '$20'; write 20"),
    "a number in quotes": (BASE + "repetitions: '3'", "repetitions must be a whole number, got '3'; write 3"),
    "a share with its sign": (
        BASE + "accounts: {o: {share: 70%}}",
        "accounts.o.share must be a number, got '70%'; write 0.7",
    ),
    "money that is none": (BASE + "budget_usd: free", "budget_usd must be a number, got 'free'"),
    "a truth, misspelt": (
        models("{name: a, host: vllm, id: x, trust_remote_code: ture}"),
        "models[0].trust_remote_code must be true or false, got 'ture'; did you mean 'true'?",
    ),
    "no repetitions": (BASE + "repetitions: 0", "repetitions must be at least 1, got 0"),
    "half a repetition": (BASE + "repetitions: 1.5", "repetitions must be a whole number, got 1.5"),
    "repetitions in words": (BASE + "repetitions: many", "repetitions must be a whole number, got 'many'"),
    "repetitions that are no count": (BASE + "repetitions: yes", "repetitions must be a whole number, got True"),
    "no states": (BASE + "states: 0", "states must be at least 1, got 0"),
    "an empty list of states": (BASE + "states: []", "states must have at least 1, got []"),
    "states in words": (
        BASE + "states: all",
        "states: 'all' is none of Russell's terms; there are happy, delighted, excited, astonished, aroused, tense, "
        "alarmed, angry, afraid, annoyed, distressed, frustrated, miserable, sad, gloomy, depressed, bored, droopy, "
        "tired, sleepy, calm, relaxed, satisfied, at ease, content, serene, glad, pleased; an angle in degrees or a "
        "count of states does as well",
    ),
    "a misspelt term": (
        BASE + "states: [sad, hapy]",
        "states[1]: 'hapy' is none of Russell's terms; nearest: happy; an angle in degrees or a count of states does "
        "as well",
    ),
    "an angle in quotes": (BASE + "states: ['90', 0]", "states[0]: '90' is a text; write 90"),
    "a label in place of a term": (
        BASE + "states: [fear]",
        "states[0]: 'fear' is none of Russell's terms; nearest: afraid; an angle in degrees or a count of states does "
        "as well",
    ),
    "a term and its angle": (
        BASE + "states: [happy, 7.8]",
        "states has 'valence 0.990748, arousal 0.135716' twice; every cell of the grid must be asked once",
    ),
    "an angle beyond the circle": (BASE + "states: [400]", "states[0] must be at most 360, got 400"),
    "an angle that is no number": (
        BASE + "states: [.nan]",
        "states[0] must be a number or a section of settings (name: value), got nan",
    ),
    "states as a section": (BASE + "states: {a: 1}", "states must be a whole number or a list, got {'a': 1}"),
    "a temperature that is a truth": (
        BASE + "sampling: {temperature: yes}",
        "sampling.temperature must be a number, got True",
    ),
    "money without end": (BASE + "budget_usd: .inf", "budget_usd must be a number, got inf"),
    "a state outside the plane": (
        BASE + "states: [{valence: 1, arousal: 2}]",
        "states[0].arousal must be at most 1, got 2",
    ),
    "a state without a direction": (
        BASE + "states: [{valence: 0, arousal: 0}]",
        "states[0] is the origin, which has no direction; give a valence or an arousal",
    ),
    "a state that is nearly nothing": (
        BASE + "states: [{valence: 0.0001, arousal: 0}]",
        "states × intensities has valence 0.0001, arousal 0, so close to the origin that it has no direction",
    ),
    "no intensity": (BASE + "intensities: [0]", "intensities[0] must be more than 0, got 0"),
    "too much intensity": (BASE + "intensities: 1.2", "intensities must be at most 1, got 1.2"),
    "too hot": (BASE + "sampling: {temperature: 3}", "sampling.temperature must be at most 2, got 3"),
    "hot": (BASE + "sampling: {temperature: hot}", "sampling.temperature must be a number, got 'hot'"),
    "an empty nucleus": (BASE + "sampling: {top_p: 0}", "sampling.top_p must be more than 0, got 0"),
    "a negative seed": (BASE + "seed: -1", "seed must be at least 0, got -1"),
    "a share in percent": (
        BASE + "accounts: {openai: {share: 70}}",
        "accounts.openai.share must be at most 1, got 70",
    ),
    "a deadline in words": (
        models("{name: a, host: scripted, deadline: soon}"),
        "models[0].deadline must be a time from the start (90min, 6h) or on the clock in quotes "
        "(\"07:00\"), got 'soon'",
    ),
    "a priority in words": (
        models("{name: a, host: scripted, priority: high}"),
        "models[0].priority must be a whole number, got 'high'",
    ),
    "none of a resource": (
        models("{name: a, host: scripted, resources: {slot: 0}}"),
        "models[0].resources.slot must be more than 0, got 0",
    ),
    "one tag of two": (
        models("{name: a, host: scripted, reasoning_tags: ['<think>']}"),
        TAGS + "['<think>']",
    ),
    "tags that nothing tells apart": (
        models("{name: a, host: scripted, reasoning_tags: ['***', '***']}"),
        TAGS + "['***', '***']",
    ),
    "no tags, as YAML says nothing": (models("{name: a, host: scripted, reasoning_tags: null}"), TAGS + "None"),
    "an empty tag": (models("{name: a, host: scripted, reasoning_tags: ['', 'x']}"), TAGS + "['', 'x']"),
    "a family of tags that is none": (
        models("{name: a, host: scripted, reasoning_tags: all}"),
        TAGS + "'all'",
    ),
    "a keyword of emoray's own": (
        models("{name: a, host: transformers, id: x, chat_template_kwargs: {add_generation_prompt: false}}"),
        "models[0].chat_template_kwargs: has 'add_generation_prompt', which emoray itself hands to the template, or "
        "keeps from it; leave it out",
    ),
    "keywords in a list": (
        models("{name: a, host: vllm, id: x, chat_template_kwargs: [enable_thinking]}"),
        "models[0].chat_template_kwargs must be a section of settings (name: value), got ['enable_thinking']",
    ),
    "a date to a template": (
        models("{name: a, host: vllm, id: x, chat_template_kwargs: {today: 2024-01-01}}"),
        "models[0].chat_template_kwargs.today must be text, a number, true or false, a list or a section, "
        "got datetime.date(2024, 1, 1); write it in quotes",
    ),
    "defaults of nobody": (
        models("{name: a, host: transformers, id: x, sampling_defaults: vllm}"),
        "models[0].sampling_defaults must be 'spec' or 'model', got 'vllm'",
    ),
    "defaults of two": (
        models("{name: a, host: vllm, id: x, sampling_defaults: model, engine_kwargs: {generation_config: vllm}}"),
        "models[0]: sampling_defaults is model, and engine_kwargs has a generation_config; leave one of the two out",
    ),
    "a judge with a deadline": (
        models("{name: a, host: scripted}")
        + "readers: [{kind: judge, name: j, model: {name: b, host: scripted, deadline: 6h}}]",
        "readers[0].model.deadline is set, but a judge has no lane of its own; set it on a model",
    ),
    "one bound of two": (
        models("{name: a, host: vllm, id: x, replicas: [1]}"),
        "models[0].replicas must have at least 2, got [1]",
    ),
    "bounds the wrong way round": (
        models("{name: a, host: vllm, id: x, replicas: [4, 1]}"),
        "models[0].replicas must be [least, most], got [4, 1]",
    ),
    # ── choices ──
    "an unknown host": (
        models("{name: a, host: opnai}"),
        f"models[0].host must be one of {HOSTS}, got 'opnai'",
    ),
    "a misspelt host": (
        models("{name: a, host: scriptd}"),
        f"models[0].host must be one of {HOSTS}, got 'scriptd'; did you mean 'scripted'?",
    ),
    "a provider in place of a host": (
        models("{name: a, host: openai, id: x}"),
        f"models[0].host must be one of {HOSTS}, got 'openai'; write hosted_api, with an account of kind: openai",
    ),
    "another provider": (
        models("{name: a, host: Anthropic, id: x}"),
        f"models[0].host must be one of {HOSTS}, got 'Anthropic'; write hosted_api, with an account whose base_url is "
        "https://api.anthropic.com/v1/",
    ),
    "a server of one's own": (
        models("{name: a, host: ollama, id: x}"),
        f"models[0].host must be one of {HOSTS}, got 'ollama'; write hosted_api, with an account whose base_url is "
        "http://localhost:11434/v1",
    ),
    "a hub in place of a host": (
        models("{name: a, host: huggingface, id: x}"),
        f"models[0].host must be one of {HOSTS}, got 'huggingface'; write transformers (on this machine, simple) or "
        "vllm (fast, on GPUs)",
    ),
    "a place in place of a host": (
        models("{name: a, host: local, id: x}"),
        f"models[0].host must be one of {HOSTS}, got 'local'; write transformers (on this machine, simple) or vllm "
        "(fast, on GPUs)",
    ),
    "a host by another name": (
        models("{name: a, provider: openai}"),
        f"models[0] needs host: one of {HOSTS}; provider is no setting, write host",
    ),
    "a misspelt host's name": (
        models("{name: a, hots: scripted}"),
        f"models[0] needs host: one of {HOSTS}; hots is no setting, write host",
    ),
    "a library in place of a reader": (
        models("{name: a, host: scripted}") + "readers: [{kind: huggingface, name: x, model: y}]",
        f"readers[0].kind must be one of {KINDS}, got 'huggingface'; write goemotions",
    ),
    "a misspelt rule for neutral": (
        BASE + "neutral: zeroo",
        "neutral must be 'zero' or 'drop', got 'zeroo'; did you mean 'zero'?",
    ),
    "a template's text in place of its name": (
        BASE + "templates: ['Be {words}. {question}']",
        "templates: 'Be {words}. {question}' is none of none, parameters, scenario, verbal, words, "
        "words_and_parameters; one of your own is {name: …, user: …}",
    ),
    "a word in place of a question": (
        BASE + "questions: [happiness]",
        "questions: 'happiness' is none of freedom, art, technology, success, education, nature, work, city, justice, "
        "future, abstract-philosophical, personal-preference; one of your own is a sentence, or {id: …, text: …}",
    ),
    "all questions, misspelt": (
        BASE + "questions: al",
        "questions: 'al' is none of freedom, art, technology, success, education, nature, work, city, justice, future, "
        "abstract-philosophical, personal-preference; did you mean 'all'?",
    ),
    "a question twice, as an id and as its text": (
        BASE + "questions: [freedom, 'What does freedom mean to you?']",
        "questions has 'freedom' twice; every cell of the grid must be asked once",
    ),
    "a question with a colon": (
        BASE + "questions: [What is it: a sea]",
        "questions[0].What is it is not a setting; a text with a colon in it goes in quotes",
    ),
    "no host": (
        models("{name: a}"),
        f"models[0] needs host: one of {HOSTS}",
    ),
    "a reader without a kind": (
        models("{name: a, host: scripted}") + "readers: [{name: x}]",
        f"readers[0] needs kind: one of {KINDS}",
    ),
    "an unknown reader": (
        models("{name: a, host: scripted}") + "readers: [{kind: goemotion, name: x}]",
        f"readers[0].kind must be one of {KINDS}, got 'goemotion'; did you mean 'goemotions'?",
    ),
    "an unknown rule for neutral": (BASE + "neutral: ignore", "neutral must be 'zero' or 'drop', got 'ignore'"),
    "an unknown rule for refusals": (
        BASE + "refusals: as read",
        "refusals must be 'zero', 'drop' or 'as_read', got 'as read'; did you mean 'as_read'?",
    ),
    "a headline of a template that is not asked": (
        BASE + "templates: [words, verbal]\nheadline: word",
        "headline.template 'word' is none of the templates; give one of words, verbal; did you mean 'words'?",
    ),
    "a headline of a control": (
        BASE + "templates: [none, words]\nheadline: {template: none}",
        "headline.template 'none' is a control, which enters no mean; give one of words",
    ),
    "a headline of an intensity that is not asked": (
        BASE + "intensities: [0.5, 1]\nheadline: {intensity: 0.7}",
        "headline.intensity 0.7 is none of the intensities; give one of 0.5, 1",
    ),
    "an unknown template": (
        BASE + "templates: [parameter]",
        "templates: 'parameter' is none of none, parameters, scenario, verbal, words, words_and_parameters; "
        "did you mean 'parameters'?",
    ),
    "an unknown question": (
        BASE + "questions: [fredom]",
        "questions: 'fredom' is none of freedom, art, technology, success, education, nature, work, city, justice, "
        "future, abstract-philosophical, personal-preference; did you mean 'freedom'?",
    ),
    "an unknown label map": (
        BASE + "label_map: rusell",
        "label_map: 'rusell' is neither a file nor one of russell, octants, ratings; did you mean 'russell'?",
    ),
    "an account that is not there": (
        HOSTED.replace("account: openai", "account: opnai") + "}]",
        "models[0].account is 'opnai', which accounts does not define; did you mean 'openai'?",
    ),
    "an Azure account that does not say its version": (
        HOSTED.replace("key_env", "kind: azure, key_env") + "}]",
        "accounts.openai.api_version is missing; Azure asks for one, such as '2024-10-21'",
    ),
    "an unknown rubric": (
        JUDGED % "affekt",
        "readers[0].rubric: no rubric is called 'affekt'; there are affect; did you mean 'affect'?",
    ),
    "ONNX Runtime on a GPU": (
        NETWORK + "gpus: 0.5, runtime: onnx}]",
        "readers[0].runtime: onnx reads on CPUs, and gpus is 0.5; leave one of the two out",
    ),
    "ONNX Runtime in half precision": (
        NETWORK.replace("goemotions", "regressor") + "model: m, runtime: onnx, dtype: bfloat16}]",
        "readers[0].runtime: onnx reads in float32, and dtype is bfloat16; leave one of the two out",
    ),
    "another runtime": (
        NETWORK + "runtime: tensorrt}]",
        "readers[0].runtime must be 'torch' or 'onnx', got 'tensorrt'",
    ),
    # ── values in other words ──
    "an angle with its unit": (BASE + "states: [90°]", "states[0]: '90°' is a text; write 90"),
    "an angle in a section": (
        BASE + "states: [{angle: 90}]",
        "states[0]: must be the angle itself, got {'angle': 90}; write 90",
    ),
    "minutes where seconds are meant": (
        BASE + "retry: {timeout_s: 2m}",
        "retry.timeout_s must be a number, got '2m'; write 120",
    ),
    "requests of a second": (
        "name: t\naccounts: {a: {key_env: K, requests_per_minute: 10/s}}\nmodels: [{name: a, host: scripted}]",
        "accounts.a.requests_per_minute must be a number, got '10/s'; write 600",
    ),
    "a whole number with a point": (
        BASE + "sampling: {max_tokens: 256.0}",
        "sampling.max_tokens must be a whole number, got 256.0; write 256",
    ),
    "thousands with a comma": (
        BASE + "sampling: {max_tokens: 1,000}",
        "line 4: the name of a setting must be text, got '000'; a number has no comma: a point where others have one, "
        "and nothing between thousands",
    ),
    "no blank behind a colon": (
        BASE + "repetitions:3\n",
        "line 5: could not find expected ':'; a setting is `name: value`, with a blank behind the colon",
    ),
    "a deadline without its unit": (
        models("{name: a, host: scripted, deadline: 6}"),
        'models[0].deadline must be text, got 6; write 90min, 6h or "07:00"',
    ),
    "half precision by its short name": (
        models("{name: a, host: transformers, id: x, dtype: fp16}"),
        "models[0].dtype must be 'auto', 'float32', 'bfloat16' or 'float16', got 'fp16'; did you mean 'float16'?",
    ),
    "a provider where the kind of an account stands": (
        ACCOUNT.replace("key_env", "kind: groq, key_env") + BASE,
        "accounts.openai.kind must be 'openai' or 'azure', got 'groq'; leave kind out, and write base_url: "
        "https://api.groq.com/openai/v1",
    ),
    # ── settings by other names ──
    "a setting of a request": (
        HOSTED + ", reasoning_effort: low}]",
        "models[0].reasoning_effort is not a setting; it goes into the request by extra_body: {reasoning_effort: …}",
    ),
    "requests per second": (
        "name: t\naccounts: {a: {key_env: K, requests_per_second: 5}}\nmodels: [{name: a, host: scripted}]",
        "accounts.a.requests_per_second is not a setting; did you mean 'requests_per_minute', times 60: 300?",
    ),
    "tokens per second of an account, at a model": (
        models("{name: a, host: scripted, tps: 10}"),
        "models[0].tps is not a setting; did you mean 'accounts.<name>.tokens_per_minute', times 60: 600?",
    ),
    "milliseconds where seconds are meant": (
        BASE + "retry: {timeout_ms: 60000}",
        "retry.timeout_ms is not a setting; did you mean 'timeout_s', in seconds: 60?",
    ),
    "a decimal comma before three digits": (
        BASE + "sampling: {temperature: '0,700'}",
        "sampling.temperature must be a number, got '0,700'; write 0.7",
    ),
    "thousands that the setting never reaches": (
        BASE + "sampling: {temperature: '1,500'}",
        "sampling.temperature must be a number, got '1,500'; write 1.5",
    ),
    "thousands of a whole number": (
        BASE + "sampling: {max_tokens: '1,000'}",
        "sampling.max_tokens must be a whole number, got '1,000'; write 1000",
    ),
    "a share of no time": (
        BASE + "retry: {first_wait_s: 5%}",
        "retry.first_wait_s must be a number, got '5%'",
    ),
    "a share of no sum": (BASE + "budget_usd: 50%", "budget_usd must be a number, got '50%'"),
    "two angles in one text": (BASE + "states: ['90,180']", "states[0]: '90,180' is one text; write [90, 180]"),
    "beams of one's own model": (
        BASE + "sampling: {num_beams: 4}",
        "sampling.num_beams is not a setting; emoray draws without it",
    ),
    "beams of a hosted model": (
        HOSTED + ", num_beams: 4}]",
        "models[0].num_beams is not a setting; emoray draws without it",
    ),
    "the greedy way": (
        BASE + "sampling: {do_sample: false}",
        "sampling.do_sample is not a setting; emoray draws without it; for the likeliest words set temperature: 0",
    ),
    "where to stop": (
        BASE + "sampling: {stop: [x]}",
        "sampling.stop is not a setting; emoray draws without it, a hosted model may take it in extra_body: {stop: …}",
    ),
    "where a hosted model stops, by another name": (
        HOSTED + ", stop_sequences: [x]}]",
        "models[0].stop_sequences is not a setting; it goes into the request by extra_body: {stop: …}",
    ),
    "the text of a template": (
        BASE + "templates: [{name: m, text: '{question}'}]",
        "templates[0].text is not a setting; did you mean 'user'?",
    ),
    "the id of a classifier": (NETWORK + "id: x}]", "readers[0].id is not a setting; did you mean 'model'?"),
    "tries of a retry": (
        BASE + "retry: {max_retries: 3}",
        "retry.max_retries is not a setting; did you mean 'attempts'?",
    ),
    "the seed by a longer name": (BASE + "random_seed: 3", "random_seed is not a setting; did you mean 'seed'?"),
    "the folder of the run": (
        BASE + "output_dir: x",
        "output_dir is not a setting; a command says it, with --out FOLDER",
    ),
    # ── what Ray gives away ──
    "a GPU and a half": (
        models("{name: a, host: transformers, id: x, gpus: 1.5}"),
        "models[0].gpus: must be a share of one GPU (up to 1) or a whole number of them, got 1.5",
    ),
    "less than Ray can divide": (
        models("{name: a, host: scripted, cpus: 0.00001}"),
        "models[0].cpus: must be at least 0.0001, the smallest part that Ray gives away, got 1e-05",
    ),
    "a GPU as a resource of one's own": (
        models("{name: a, host: scripted, resources: {GPU: 1}}"),
        "models[0].resources: has 'GPU', which is no custom resource; set gpus (of vllm: tensor_parallel_size)",
    ),
    # ── shapes ──
    "a model that is only a name": (
        models("gpt-4"),
        "models[0] must be a section of settings (name: value), got 'gpt-4'; write {name: …, host: …, id: …}",
    ),
    "one model where a list should be": (
        "name: t\nmodels: {name: a, host: scripted}",
        "models must be a list, got {'name': 'a', 'host': 'scripted'}; write [{name: …, host: …, id: …}, …]",
    ),
    "an empty list of models": ("name: t\nmodels: []", "models must have at least 1, got []"),
    "nothing where the models should be": (
        "name: t\nmodels:",
        "models must be a list, got None; write [{name: …, host: …, id: …}, …]",
    ),
    "a word where a section should be": (
        BASE + "sampling: hot",
        "sampling must be a section of settings (name: value), got 'hot'; write {temperature: …, max_tokens: …}",
    ),
    "a question that is a number": (
        BASE + "questions: [3]",
        "questions[0] must be text or a section of settings (name: value), got 3; write a sentence, or "
        "{id: …, text: …}",
    ),
    "a question that is a list": (
        BASE + "questions: [[a]]",
        "questions[0] must be text or a section of settings (name: value), got ['a']; write a sentence, or "
        "{id: …, text: …}",
    ),
    "a template that is a number": (
        BASE + "templates: 3",
        "templates must be text or a section of settings (name: value), got 3; write a template's name, or "
        "{name: …, user: …}",
    ),
    "a label map in place of its name": (
        BASE + "label_map: {joy: {term: happy}}",
        "label_map must be text, got {'joy': {'term': 'happy'}}",
    ),
    "an empty question": (BASE + "questions: [{id: a, text: ''}]", "questions[0].text must not be empty"),
    "an empty id": (models("{name: a, host: vllm, id: ''}"), "models[0].id must not be empty"),
    "an id that was left out": (models("{name: a, host: vllm, id: }"), "models[0].id must be text, got None"),
    "a date to a provider": (
        HOSTED + ", extra_body: {since: [2024-01-01]}}]",
        "models[0].extra_body.since[0] must be text, a number, true or false, a list or a section, "
        "got datetime.date(2024, 1, 1); write it in quotes",
    ),
    "a set to an engine": (
        models("{name: a, host: vllm, id: x, engine_kwargs: {hf_overrides: {a: !!set {b}}}}"),
        "models[0].engine_kwargs.hf_overrides.a must be text, a number, true or false, a list or a section, got {'b'}",
    ),
    "a name that is a number": (
        "name: 2024\nmodels: [{name: a, host: scripted}]",
        "name must be text, got 2024; write it in quotes",
    ),
    "a name that is a path": (
        "name: a/b\nmodels: [{name: a, host: scripted}]",
        f"name must be {NAME}, got 'a/b'",
    ),
    "a name that is hidden": (models("{name: .É, host: scripted}"), f"models[0].name must be {NAME}, got '.É'"),
    "a name that stores keep for themselves": (
        models("{name: _a, host: scripted}"),
        f"models[0].name must be {NAME}, got '_a'",
    ),
    "a name that is a picture": (models("{name: 😀, host: scripted}"), f"models[0].name: must be {NAME}, got '😀'"),
    "a name with an invisible letter": (
        models('{name: "a\\u200db", host: scripted}'),
        f"models[0].name: must be {NAME}, got 'a\\u200db'",
    ),
    "a name of too many bytes": (
        models(f"{{name: {'語' * 27}, host: scripted}}"),
        f"models[0].name: must be {NAME}, got {'語' * 27!r}",
    ),
    "a name of too many letters": (
        models(f"{{name: {'a' * 65}, host: scripted}}"),
        "models[0].name must have at most 64 characters, got 65",
    ),
    "one name in two spellings": (
        models("{name: \u00c9mile, host: scripted}", "{name: E\u0301mile, host: scripted}"),
        "models has 'Émile' twice; give each its own name",
    ),
    "an address with a key in it": (
        BASE + "accounts: {o: {base_url: 'https://me:sk-1@example.com/v1'}}",
        "accounts.o.base_url: holds a name or key before its @; put the key in the variable that key_env names",
    ),
    "an address without http": (
        BASE + "accounts: {o: {base_url: api.example.com}}",
        "accounts.o.base_url must be an address (it begins with https:// or http://), got 'api.example.com'",
    ),
    # ── texts ──
    "a template that never asks": (
        BASE + "templates: [{name: mine, user: hello}]",
        "template 'mine' never asks: {question} is in neither its system nor its user text",
    ),
    "a template with an unknown field": (
        BASE + "templates: [{name: mine, user: '{question} {mood}'}]",
        "template 'mine' has the unknown field {mood}; known are {question}, {valence}, {arousal}, {words}, {verbal}, "
        "{scenario}; write {{ and }} for braces in the text",
    ),
    "a template with a misspelt field": (
        BASE + "templates: [{name: mine, user: '{qestion}'}]",
        "template 'mine' has the unknown field {qestion} (did you mean {question}?); known are {question}, {valence}, "
        "{arousal}, {words}, {verbal}, {scenario}; write {{ and }} for braces in the text",
    ),
    "a template with JSON in it": (
        BASE + """templates: [{name: mine, user: '{question} {"mood": 1}'}]""",
        "template 'mine' has the unknown field {\"mood\"}; known are {question}, {valence}, {arousal}, {words}, "
        "{verbal}, {scenario}; write {{ and }} for braces in the text",
    ),
    "a template with an empty field": (
        BASE + "templates: [{name: mine, user: '{question} {}'}]",
        "template 'mine' has the unknown field {}; known are {question}, {valence}, {arousal}, {words}, {verbal}, "
        "{scenario}; write {{ and }} for braces in the text",
    ),
    "a template with a lost brace": (
        BASE + "templates: [{name: mine, user: '{question'}]",
        "template 'mine': expected '}' before end of string; write {{ and }} for braces in the text",
    ),
    # ── YAML ──
    "a number for a name": (BASE + "1: 2", "line 4: the name of a setting must be text, got 1; write it in quotes"),
    "a list for a name": (BASE + "? [1, 2]\n: 3", "line 4: the name of a setting must be text, got [1, 2]"),
    "a section for a name": (BASE + "? {a: b}\n: 3", "line 4: the name of a setting must be text, got {'a': 'b'}"),
    "an open bracket": (BASE + "states: [", "line 4: expected the node content, but found '<stream end>'"),
    "a tab": (BASE + "states:\n\t- 0", "line 5: a tab stands where YAML wants spaces; indent with spaces"),
    "a colon in a text": (
        BASE + "label_map: a: b",
        "line 4: mapping values are not allowed here; a text with a colon in it goes in quotes",
    ),
    "a question mark in a text": (
        BASE + "questions: {id: a, text: Why?}",
        "line 4: expected ',' or '}', but got '?'; put texts in quotes",
    ),
    "a sign that YAML keeps": (
        BASE + "label_map: @a",
        "line 4: found character '@' that cannot start any token; put the text in quotes",
    ),
    "a control character": (
        BASE + "label_map: a\x07",
        "line 4: the character U+0007 cannot stand in YAML; leave it out, or write it as an escape",
    ),
    "a thirteenth month": (
        BASE + "label_map: 2024-13-01",
        "line 4: '2024-13-01' cannot be read as timestamp; write it in quotes",
    ),
    "a tag that does not fit": (BASE + "seed: !!int x", "line 4: 'x' cannot be read as int; write it in quotes"),
    "another tag that does not fit": (
        BASE + "seed: !!bool x",
        "line 4: 'x' cannot be read as bool; write it in quotes",
    ),
    "a section that is none": (BASE + "sampling: !!map x", "line 4: expected a mapping node, but found scalar"),
    "an empty file": ("", "holds no settings; a spec begins with `name:` and `models:`"),
    "a list": ("- a", "holds no settings; a spec begins with `name:` and `models:`"),
    "two documents": (
        BASE + "---\n" + BASE,
        "line 4: a second document begins here (---); keep one, and give the other a file of its own",
    ),
    "code in YAML": (
        BASE + "seed: !!python/object/apply:os.getpid []",
        "line 4: the tag 'tag:yaml.org,2002:python/object/apply:os…' means nothing here; leave it out",
    ),
}


@pytest.mark.parametrize("first", ["lmformatenforcer.external.jsonschemaobjectutil", "emoray.spec.load"])
def test_a_date_is_a_date_though_a_library_of_vllm_makes_dates_text_in_pyyaml_itself(first: str) -> None:
    pytest.importorskip("lmformatenforcer", reason="comes with vLLM")
    text, sentence = MISTAKES["a date to a provider"]
    code = f"""if True:
        import {first}
        import pathlib, yaml
        from emoray.spec.base import SpecError
        from emoray.spec.load import parse
        import lmformatenforcer.external.jsonschemaobjectutil
        assert yaml.safe_load("2024-01-01") == "2024-01-01", "PyYAML is as it was, so this tests nothing"
        try:
            parse({text!r}, source="my.yaml", folder=pathlib.Path())
        except SpecError as error:
            print(error)
    """
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == f"my.yaml: {sentence}\n"


def test_a_clock_time_needs_no_quotes() -> None:
    """YAML 1.1 would read it as 1,020."""
    (model,) = study(models("{name: a, host: scripted, deadline: 17:00}")).spec.models
    assert model.deadline == "17:00"


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_sentence_that_says_where_and_what(mistake: str) -> None:
    text, sentence = MISTAKES[mistake]
    assert complaint(text) == f"my.yaml: {sentence}"


def test_several_mistakes_get_a_line_each() -> None:
    assert complaint(BASE + "repetitions: 0\nseed: -1\nquestons: all\n").splitlines() == [
        "my.yaml: repetitions must be at least 1, got 0",
        "my.yaml: seed must be at least 0, got -1",
        "my.yaml: questons is not a setting; did you mean 'questions'?",
    ]


@pytest.mark.parametrize(
    "account",
    ["{key_env: sk-proj-1234}", "{key: sk-proj-1234}", "sk-proj-1234", "{key_env: [sk-proj-1234]}", "[sk-proj-1234]"],
)
def test_a_key_that_somebody_wrote_into_a_spec_is_never_repeated(account: str) -> None:
    said = complaint(BASE + f"accounts: {{openai: {account}}}")
    assert "accounts.openai" in said
    assert "1234" not in said


def test_a_long_wrong_value_is_not_repeated_in_full() -> None:
    assert len(complaint(BASE + f"repetitions: {'word ' * 500}")) < 200


CHANGES: dict[str, tuple[str, Any]] = {
    "repetitions=3": ("repetitions", 3),
    "sampling.temperature=0.5": ("sampling.temperature", 0.5),
    "sampling.temperature=null": ("sampling.temperature", None),
    "models[0].actors=2": ("models.0.actors", 2),
    "models[0].lines=[one, two]": ("models.0.lines", ["one", "two"]),
    "states=[0, 90]": ("states", [0, 90]),
    "accounts.openai.key_env=MY_KEY": ("accounts.openai.key_env", "MY_KEY"),
    "questions=art": ("questions", ["art"]),
    "models[0].lines[0]=a=b": ("models.0.lines", ["a=b"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_setting_can_be_changed_on_the_command_line(change: str) -> None:
    path, value = CHANGES[change]
    here: Any = study(BASE.replace("scripted}", "scripted, lines: [x]}", 1), change).spec.model_dump()
    for step in path.split("."):
        here = here[int(step)] if isinstance(here, list) else here[step]
    assert here == value


def test_changes_are_made_in_their_order() -> None:
    assert study(BASE, "repetitions=3", "repetitions=4").spec.repetitions == 4


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("repetitions", "--set repetitions is not path=value, such as --set repetitions=3 or --set models[0].actors=2"),
        ("=3", "--set =3 is not path=value, such as --set repetitions=3 or --set models[0].actors=2"),
        ("models[3].actors=1", "--set models[3].actors=1: the spec has no models[3].actors"),
        ("models[1]=x", "--set models[1]=x: the spec has no models[1]"),
        ("models.a.actors=1", "--set models.a.actors=1: the spec has no models.a.actors"),
        ("name.a.b=1", "--set name.a.b=1: the spec has no name.a.b"),
        ("states=[", "--set states=[: '[' is no YAML value; quote what has brackets, colons or commas"),
        ("repetitions=0", "repetitions must be at least 1, got 0"),
        ("reps=3", "reps is not a setting"),
        (
            "seed=99999999999999999999",
            "--set seed=99999999999999999999: '99999999999999999999' is beyond 64 bits; write a smaller number, or in "
            "quotes if it is a text",
        ),
        (f"seed={'9' * 5000}", f"--set seed={'9' * 95} …: '{'9' * 40}…' is beyond 64 bits"),
        (f"models[{'9' * 5000}].actors=2", f"--set models[{'9' * 93} …: the spec has no models[{'9' * 93} …"),
        (f"{'a.' * 5000}b=1", f"--set {'a.' * 50} … is not path=value"),
        (
            "states=" + "[" * 5000,
            f"--set states={'[' * 93} …: lists and sections stand in one another more than 64 deep",
        ),
        ("models[0][0]=1", "models[0].0 is not a setting: the name of one is text"),
        ("[0]=1", "0 is not a setting: the name of one is text"),
        ('questions="\\ud800?"', '--set questions="\\ud800?": \\ud800 is half a character'),
        ("repetitions=10k", "repetitions must be a whole number, got '10k'; write 10000"),
        ("states=1\n---\n2", "--set states=1 --- 2: '1\\n---\\n2' is no YAML value"),
    ],
    ids=lambda text: str(text[:40]),
)
def test_a_change_that_cannot_be_made_gets_a_sentence(change: str, sentence: str) -> None:
    assert complaint(BASE, change).startswith(f"my.yaml: {sentence}")


def test_a_file_that_is_not_there_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as told:
        load(tmp_path / "no.yaml")
    assert str(told.value) == (
        f"{tmp_path}/no.yaml: cannot be read (No such file or directory); "
        "give the path of a spec, or the name of one that ships (fine_states, intensity, overnight, paper, "
        "question_domains, quickstart, repetitions, templates, words_vs_parameters)"
    )


def test_a_folder_is_no_spec(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"cannot be read \(Is a directory\)"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"\xff\xfe\x00", "is not UTF-8 text (it begins as UTF-16 does); save it as UTF-8"),
        (BASE.encode("utf-16"), "is not UTF-8 text (it begins as UTF-16 does); save it as UTF-8"),
        (BASE.encode("utf-16-le"), "is not UTF-8 text (line 1 holds the byte 0x00); save it as UTF-8"),
        (f"{BASE}# é".encode("latin-1"), "is not UTF-8 text (line 4 holds the byte 0xe9); save it as UTF-8"),
        (b"\x7fELF\x02\x01\x01\x00", "is not UTF-8 text (line 1 holds the byte 0x00); save it as UTF-8"),
        (b"\x89PNG\r\n\x1a\n", "is not UTF-8 text (line 1 holds the byte 0x89); save it as UTF-8"),
        (b"# " * (9 << 20), "cannot be read (it is larger than 16 MiB); give the path of a spec, or the "),
    ],
    ids=lambda text: str(text[:40]),
)
def test_a_file_that_is_no_text_gets_a_sentence(tmp_path: Path, data: bytes, sentence: str) -> None:
    file = tmp_path / "spec.yaml"
    file.write_bytes(data)
    with pytest.raises(SpecError) as told:
        load(file)
    assert str(told.value).startswith(f"{file}: {sentence}")


def test_a_file_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(SpecError, match=r"/dev/zero: cannot be read \(it is larger than 16 MiB\)"):
        load("/dev/zero")


def test_the_mark_that_editors_put_before_a_text_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(BASE, encoding="utf-8-sig")
    assert load(tmp_path / "spec.yaml").spec == study(BASE).spec


@settings(max_examples=150)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-3, 400) | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
        max_leaves=6,
    ),
    st.sampled_from([*Spec.model_fields, "models[0].host", "models[0].sampling", "accounts.o", "readers[0].kind"]),
)
def test_whatever_stands_in_a_setting_it_is_used_or_complained_about(value: Any, setting: str) -> None:
    said = "my.yaml: "
    try:
        assert len(study(BASE, f"{setting}={json.dumps(value)}").experiment) >= 1
    except SpecError as told:
        said = str(told)
    assert said.startswith("my.yaml: ")
    assert "validation error" not in said
    assert "pydantic" not in said


# ── what a spec means ──


def test_the_smallest_spec_asks_the_papers_grid_once() -> None:
    e = study("name: t\nmodels: [{name: a, host: embedded}]").experiment
    assert len(e) == 120
    assert [state.angle_deg for state in e.states] == pytest.approx([30.0 * i for i in range(12)])
    assert (e.intensities, e.repetitions, e.templates[0].name) == ((1.0,), 1, "parameters")


def test_a_list_of_one_may_be_written_as_its_member() -> None:
    short = study(BASE + "questions: art\ntemplates: words\nintensities: 0.5").spec
    assert short == study(BASE + "questions: [art]\ntemplates: [words]\nintensities: [0.5]").spec


def test_states_are_a_count_angles_or_pairs() -> None:
    states = study(BASE + "states: [-90, 30, {valence: -0.5, arousal: 0.5}]").experiment.states
    assert [state.angle_deg for state in states] == pytest.approx([270, 30, 135])
    assert [round(state.affect.intensity, 6) for state in states] == [1, 1, 0.707107]


def test_a_models_own_sampling_changes_what_it_names_and_nothing_else() -> None:
    found = study(
        models("{name: a, host: scripted}", "{name: b, host: scripted, sampling: {temperature: 0}}")
        + "sampling: {temperature: 0.8, max_tokens: 64}"
    ).experiment.models
    assert (found[0].sampling.temperature, found[0].sampling.max_tokens) == (0.8, 64)
    assert (found[1].sampling.temperature, found[1].sampling.max_tokens) == (0.0, 64)


def test_your_own_questions_and_templates_are_marked_as_yours() -> None:
    e = study(
        BASE + "questions: [art, {id: mine, text: Why not}]\ntemplates: [{name: own, user: '{question}'}]"
    ).experiment
    assert [q.mark for q in e.questions] == ["quoted", "user"]
    assert e.templates[0].mark == "user"


OWN = "templates: [{name: blind, user: '{question}'}, {name: mine, user: 'Be {words}. {question}'}, none]\n"


@pytest.mark.parametrize(
    ("setting", "template", "intensity"),
    [
        ("", "mine", 1.0),
        ("headline: {intensity: 0.5}", "mine", 0.5),
        ("headline: mine", "mine", 1.0),
        ("templates: none", "none", 1.0),
        ("templates: [{name: blind, user: '{question}', control: false}, words]", "blind", 1.0),
        ("templates: [{name: loud, user: '{words} {question}', control: true}, verbal]", "verbal", 1.0),
    ],
)
def test_the_headline_is_of_the_first_template_that_is_no_control_or_of_what_is_said(
    setting: str, template: str, intensity: float
) -> None:
    text = BASE + ("" if setting.startswith("templates") else OWN) + setting + "\nintensities: [0.5, 1]"
    found = study(text)
    assert found.headline == Condition(template, intensity)
    again = manifest.study(manifest.fresh(found), "here")
    assert again.headline == found.headline
    assert again.experiment.templates == found.experiment.templates


def test_a_state_may_be_one_of_russells_terms() -> None:
    one, other = study(BASE + "states: [happy, At-Ease, 90]"), study(BASE + "states: [7.8, 321, 90]")
    assert one.spec.digest == other.spec.digest
    assert keys(BASE + "states: sad") == keys(BASE + "states: [207.5]")


def test_a_question_may_be_its_text_alone() -> None:
    found = study(
        BASE + "questions: ['What is the sea to you?', art, '海とは何ですか', 'Is 1 > 0?']"
    ).experiment.questions
    assert [question.id for question in found] == [
        "what-is-the-sea-to-you-d12868da",
        "art",
        "question-637269f4",
        "is-1-0-442b0888",
    ]
    assert found[0].text == "What is the sea to you?"
    assert (found[0].mark, found[1].mark) == ("user", "quoted")


def test_the_id_of_a_bare_question_is_made_of_its_text_and_no_key_knows_of_it() -> None:
    alone = "questions: What is the sea to you?"
    named = "questions: {id: sea, text: 'What is the sea to you?'}"
    others = study(BASE + "questions: [art, 'What is the sea to you?']").experiment.questions
    assert study(BASE + alone).experiment.questions[0].id == others[1].id
    assert keys(BASE + alone) == keys(BASE + named)


def test_the_text_of_a_shipped_question_is_that_question() -> None:
    found = study(BASE + "questions: What does freedom mean to you?").experiment.questions
    assert [question.id for question in found] == ["freedom"]


def test_a_spec_with_bare_questions_survives_its_manifest(tmp_path: Path) -> None:
    before = study(BASE + "questions: ['What is the sea to you?', art]")
    after = manifest.study(manifest.parsed(json.loads(json.dumps(manifest.fresh(before).as_json())), "run"), "run")
    assert after.experiment.questions == before.experiment.questions


def test_json_is_yaml_and_its_halves_of_a_character_are_one() -> None:
    wanted = {"name": "t", "models": [{"name": "a", "host": "scripted"}], "questions": [{"id": "q", "text": "Why 😀?"}]}
    assert "\\ud83d" in json.dumps(wanted)
    assert study(json.dumps(wanted)).experiment.questions[0].text == "Why 😀?"


@pytest.mark.parametrize("name", ["Émile", "日本語モデル", "Ünïcode 2", "ไทย", "हिन्दी", "a", "7", "Llama3 8B+_.-x"])
def test_a_name_may_be_of_any_script(name: str) -> None:
    found = study(models(f"{{name: {name!r}, host: scripted}}".replace('"', "'"))).spec.models[0].name
    assert found == unicodedata.normalize("NFC", name)


def test_a_name_is_one_however_it_is_spelled() -> None:
    apart = unicodedata.normalize("NFD", "Émile")
    text = HOSTED.replace("openai: {", f"{apart}: {{").replace("account: openai", "account: Émile") + "}]"
    assert apart != "Émile"
    assert list(study(text).spec.accounts) == ["Émile"]
    assert keys(models(f"{{name: {apart}, host: scripted}}")) == keys(models("{name: Émile, host: scripted}"))


def test_yaml_anchors_and_merges_are_understood() -> None:
    text = "name: t\nmodels:\n  - &one {name: a, host: scripted, actors: 3}\n  - {<<: *one, name: b}\n"
    assert [(m.name, m.actors) for m in study(text).spec.models if isinstance(m, Scripted)] == [("a", 3), ("b", 3)]


LOCAL = models("{name: a, host: transformers, id: org/m%s}")
VLLM = models("{name: a, host: vllm, id: org/m%s}")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (LOCAL % "", LOCAL % ", revision: abc"),
        (LOCAL % "", LOCAL % ", dtype: float32"),
        (LOCAL % "", LOCAL % ", sampling: {max_tokens: 9}"),
        (LOCAL % "", (LOCAL % "").replace("org/m", "org/n")),
        (LOCAL % "", LOCAL % ", chat_template_kwargs: {enable_thinking: false}"),
        (LOCAL % ", chat_template_kwargs: {a: false}", LOCAL % ", chat_template_kwargs: {a: true}"),
        (LOCAL % ", chat_template_kwargs: {a: false}", LOCAL % ", chat_template_kwargs: {a: 0}"),
        (LOCAL % "", LOCAL % ", sampling_defaults: model"),
        (VLLM % "", VLLM % ", chat_template_kwargs: {thinking: {budget: 9}}"),
        (VLLM % "", VLLM % ", sampling_defaults: model"),
        (HOSTED + "}]", HOSTED + ", extra_body: {chat_template_kwargs: {enable_thinking: false}}}]"),
        (HOSTED + "}]", HOSTED + ", system_role: user}]"),
        (HOSTED + "}]", HOSTED + ", extra_body: {a: 1}}]"),
        (BASE, BASE.replace("scripted}", "scripted, lines: [hi]}", 1)),
        (BASE, BASE.replace("scripted}", "scripted, reasoning_tags: none}", 1)),
        (LOCAL % "", LOCAL % ", reasoning_tags: ['<a>', '</a>']"),
        (LOCAL % ", reasoning_tags: none", LOCAL % ", reasoning_tags: ['<a>', '</a>']"),
        (HOSTED + "}]", HOSTED + ", reasoning_tags: none}]"),
        (models("{name: a, host: vllm, id: x}"), models("{name: a, host: vllm, id: x, reasoning_tags: none}")),
        (models("{name: a, host: embedded}"), models("{name: a, host: embedded, reasoning_tags: none}")),
    ],
)
def test_what_decides_the_answers_changes_every_key(before: str, after: str) -> None:
    assert len(keys(before)) == len(keys(after)) > 0
    assert not keys(before) & keys(after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (LOCAL % "", LOCAL % ", gpus: 1, batch_size: 3, actors: 2"),
        (LOCAL % "", LOCAL % ", priority: 2, deadline: 6h, resources: {rack: 1}"),
        (models("{name: a, host: embedded}"), models("{name: a, host: embedded, gpus: 1}")),
        (LOCAL % "", LOCAL % ", dtype: auto, reasoning_tags: known"),
        (LOCAL % "", LOCAL % ", chat_template_kwargs: {}, sampling_defaults: spec"),
        (VLLM % "", VLLM % ", chat_template_kwargs: {}, sampling_defaults: spec"),
        (LOCAL % ", chat_template_kwargs: {a: 1, b: 2}", LOCAL % ", chat_template_kwargs: {b: 2, a: 1}"),
        (LOCAL % "", (LOCAL % "") + "seed: 9\nlabel_map: octants\nneutral: drop\nretry: {attempts: 2}"),
        (HOSTED + "}]", HOSTED + ", actors: 9, in_flight: 4, sends_seed: false}]"),
        (HOSTED + "}]", HOSTED.replace("OPENAI_API_KEY", "OTHER") + "}]"),
        (models("{name: a, host: vllm, id: x}"), models("{name: a, host: vllm, id: x, tensor_parallel_size: 8}")),
    ],
)
def test_where_and_how_fast_it_runs_changes_no_key(before: str, after: str) -> None:
    assert keys(before) == keys(after)


@pytest.mark.parametrize(
    "name",
    [
        "messages",
        "tools",
        "documents",
        "chat_template",
        "add_generation_prompt",
        "continue_final_message",
        "tokenize",
        "return_dict",
        "return_tensors",
        "padding",
        "truncation",
        "max_length",
        "conversation",
        "self",
        "strftime_now",
    ],
)
@pytest.mark.parametrize("entry", [LOCAL, VLLM])
def test_what_emoray_tells_a_chat_template_is_not_the_specs_to_say(entry: str, name: str) -> None:
    with pytest.raises(SpecError, match=rf"chat_template_kwargs: has '{name}', which emoray itself hands to") as told:
        study(entry % f", chat_template_kwargs: {{{name}: 1}}")
    assert "\n" not in str(told.value)


def test_a_folder_of_before_there_were_sampling_defaults_keeps_its_keys() -> None:
    """As the version before made them."""
    assert min(keys(LOCAL % ", revision: abc")) == "016a2184dde39288c76d092b306282fd"
    assert min(keys(VLLM % ", quantization: fp8")) == "01e67117c170ad9b7fe5f666d9b23b5f"


def test_the_digest_tells_specs_apart_and_nothing_else() -> None:
    assert study(BASE).spec.digest == study(BASE + "repetitions: 1").spec.digest
    assert study(BASE).spec.digest != study(BASE + "repetitions: 2").spec.digest
    assert study(BASE).spec.digest != study(BASE + "refusals: drop").spec.digest
    assert study(BASE).spec.digest != study(BASE + "headline: parameters").spec.digest


def test_a_spec_survives_the_way_to_json_and_back() -> None:
    assert [path.stem for path in SHIPPED if path.parent == JOBS] == ["overnight", "paper", "quickstart"]
    for path in SHIPPED:
        spec = load(path).spec
        assert Spec.model_validate(json.loads(json.dumps(spec.model_dump(mode="json")))) == spec


def test_settings_that_would_need_a_gpu_are_on_the_entries_that_use_one() -> None:
    assert {"gpus"} <= set(Local.model_fields) & set(Embedded.model_fields)
    assert {"tensor_parallel_size", "pipeline_parallel_size"} <= set(Vllm.model_fields)
    assert not any("key" in name for name in Hosted.model_fields)


# ── label maps of one's own ──


def own_map(folder: Path, name: str, text: str | bytes) -> str:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return BASE + f"label_map: {name}\n"


YAML_MAP = "".join(f"{label}: {{term: happy}}\n" for label in LABELS[:27]) + "neutral: {none: true}\n"
CSV_MAP = "label,term,angle,none\n" + "".join(f"{label},happy,,\n" for label in LABELS[:27]) + "neutral,,,true\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mine.yaml", YAML_MAP),
        ("mine.csv", CSV_MAP),
        ("mine.csv", "\ufeff" + CSV_MAP),  # as spreadsheets write it
        ("mine.csv", CSV_MAP.replace(",", ", ")),
        ("mine.csv", CSV_MAP.replace("\n", "\r\n")),
    ],
)
def test_a_label_map_of_ones_own_lies_beside_the_spec(tmp_path: Path, name: str, text: str) -> None:
    found = study(own_map(tmp_path, name, text), folder=tmp_path).label_map
    assert (found.name, found.mark) == ("mine", "user")
    assert [place.label for place in found.places if place.affect is None] == ["neutral"]
    assert found.places[0].affect is not None
    assert found.places[0].affect.angle_deg == pytest.approx(7.8)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        (
            "mine.yaml",
            YAML_MAP.replace("joy: {term: happy}\n", ""),
            "mine.yaml: label map 'mine' misses joy; it must place exactly the 28 GoEmotions labels",
        ),
        (
            "mine.yaml",
            YAML_MAP.replace("joy:", "jyo:"),
            "mine.yaml: label map 'mine' has the unknown label 'jyo' (did you mean 'joy'?); it must place exactly the",
        ),
        (
            "mine.csv",
            CSV_MAP.replace("gratitude", "Gratitude"),
            "mine.csv: label map 'mine' has the unknown label 'Gratitude' (did you mean 'gratitude'?); it must",
        ),
        (
            "mine.yaml",
            YAML_MAP.replace("joy: {term: happy}", "joy: {trem: happy}"),
            "mine.yaml: label map 'mine': joy needs a term, an angle, or valence and arousal; it has 'trem', did you "
            "mean 'term'?",
        ),
        (
            "mine.yaml",
            YAML_MAP.replace("joy: {term: happy}", "joy: {term: hapy}"),
            "mine.yaml: label map 'mine': joy names 'hapy', which is none of Russell's 28 terms; did you mean 'happy'?",
        ),
        (
            "mine.yaml",
            YAML_MAP + "joy: {term: sad}\n",
            "label_map: mine.yaml cannot be read: line 29: 'joy' is written twice; keep one",
        ),
        (
            "mine.yaml",
            "[" * 5000,
            "label_map: mine.yaml cannot be read: line 1: lists and sections stand in one another",
        ),
        (
            "mine.yaml",
            b"joy: caf\xe9",
            "label_map: mine.yaml cannot be read: is not UTF-8 text (line 1 holds the byte 0xe9)",
        ),
        ("mine.csv", CSV_MAP + "joy,sad,,\n", "label_map: the label 'joy' is written twice; keep one"),
        ("mine.yaml", "", "label_map: mine.yaml holds no labels; write one line per label, such as joy: {term: happy}"),
        ("mine.yaml", "joy: [", "label_map: mine.yaml cannot be read: "),
        ("mine.csv", b"\xff\xfe", "label_map: mine.csv cannot be read: "),
        (
            "mine.csv",
            CSV_MAP.replace("label", "emotion", 1),
            "label_map: no column is called label; there are emotion, term, angle, none",
        ),
        (
            "mine.yaml",
            "? [1, 2]\n: 3",
            "label_map: mine.yaml cannot be read: line 1: the name of a setting must be text",
        ),
        (
            "mine.csv",
            CSV_MAP.replace("joy,happy", "joy,joyful"),
            "mine.csv: label map 'mine': joy names 'joyful', which is none of Russell's 28 terms",
        ),
        (
            "mine.csv",
            CSV_MAP.replace("joy,happy,", "joy,,east"),
            "mine.csv: label map 'mine': angle of joy must be a number, got 'east'",
        ),
    ],
    ids=lambda text: str(text[:40]),
)
def test_a_label_map_that_cannot_be_used_gets_a_sentence(
    tmp_path: Path, name: str, text: str | bytes, sentence: str
) -> None:
    said = complaint(own_map(tmp_path, name, text), folder=tmp_path)
    assert said.startswith(f"my.yaml: {sentence}")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("rubric", "sentence"),
    [
        ("user = ", "readers[0].rubric: the rubric is no TOML: "),
        ("user = " + "[" * 20_000, "readers[0].rubric: the rubric is no TOML that can be read: lists stand in one"),
        ("user = 'rate it'", "readers[0].rubric: `user` of the rubric must say {text} once, where the answer goes"),
        ("", "readers[0].rubric: `user` of the rubric must say {text} once, where the answer goes"),
        (None, "readers[0].rubric is 'mine.toml', which is no readable file"),
    ],
)
def test_a_rubric_that_cannot_be_used_gets_a_sentence(tmp_path: Path, rubric: str | None, sentence: str) -> None:
    if rubric is not None:
        (tmp_path / "mine.toml").write_text(rubric)
    assert complaint(JUDGED % "mine.toml", folder=tmp_path).startswith(f"my.yaml: {sentence}")


@pytest.mark.parametrize(
    "model",
    [
        "{name: m, host: vllm, id: x, revision: abc}",
        "{name: m, host: vllm, id: x, quantization: fp8}",
        "{name: m, host: hosted_api, id: x, account: o, extra_body: {reasoning_effort: low}}",
        "{name: m, host: hosted_api, id: x, account: o, reasoning_tags: none}",
    ],
)
def test_judges_are_the_same_where_all_that_decides_their_readings_is(model: str) -> None:
    def judge(entry: str, **settings: Any) -> dict[str, Any]:
        (one,) = readers_of([{"kind": "judge", "name": "j", "model": yaml.safe_load(entry), **settings}])
        assert isinstance(one, JudgeReader)
        return reads_as(one)

    plain = ", ".join(model.split(", ")[:-1]) + "}"
    assert judge(model) != judge(plain) == judge(plain.replace("name: m", "name: n, priority: 1"))
    assert judge(plain) != judge(plain, structured="json_object")


@pytest.mark.parametrize("settings", ["dtype: auto", "dtype: float32", "gpus: 0, long_texts: window"])
def test_onnx_runtime_reads_in_float32_on_a_cpu(settings: str) -> None:
    reader = study(NETWORK + f"runtime: onnx, {settings}}}]").spec.readers[0]
    assert reader.model_dump()["runtime"] == "onnx"


def test_what_runs_a_classifier_makes_it_no_other_reader() -> None:
    """So a run goes on with either, and a saved validation is of both."""
    torch, onnx, half = (
        study(NETWORK + f"{settings}}}]").spec.readers[0]
        for settings in ("runtime: torch", "runtime: onnx, cpus: 2", "dtype: bfloat16")
    )
    assert reads_as(torch) == reads_as(onnx) != reads_as(half)


# ── what ships ──


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.name))
def test_a_shipped_spec_loads_and_points_editors_at_its_schema(path: Path) -> None:
    assert len(load(path).experiment) > 0
    schema = "spec.schema.json" if path.parent == JOBS else "../spec.schema.json"
    assert path.read_text().startswith(f"# yaml-language-server: $schema={schema}\n")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.name))
def test_a_shipped_spec_is_valid_under_the_schema(path: Path) -> None:
    jsonschema.Draft202012Validator(json_schema()).validate(yaml.safe_load(path.read_text()))


def schema_accepts(text: str) -> bool:
    return bool(jsonschema.Draft202012Validator(json_schema()).is_valid(yaml.safe_load(text)))


@pytest.mark.parametrize(
    "mistake",
    [
        "a misspelt setting",
        "no repetitions",
        "an unknown host",
        "no id",
        "too hot",
        "a name that is a path",
        "half a state",
        "more states than a circle can tell apart",
        "too many repetitions",
        "too many actors",
        "a misspelt term",
        "a name that is hidden",
    ],
)
def test_an_editor_that_knows_the_schema_sees_the_mistake(mistake: str) -> None:
    assert not schema_accepts(MISTAKES[mistake][0])


def unlimited(schema: Any, path: str = "") -> list[str]:
    """What in a schema may be as large as it likes."""
    if isinstance(schema, list):
        return [one for place, inner in enumerate(schema) for one in unlimited(inner, f"{path}/{place}")]
    if not isinstance(schema, dict):
        return []
    bounds = {
        "integer": {"maximum", "exclusiveMaximum"},
        "number": {"maximum"},
        "string": {"maxLength", "enum", "const"},
        "array": {"maxItems"},
        "object": {"maxProperties", "properties"},
    }
    kind = schema.get("type")
    mine = [path] if isinstance(kind, str) and kind in bounds and not bounds[kind] & set(schema) else []
    return mine + [one for name, inner in schema.items() for one in unlimited(inner, f"{path}/{name}")]


def test_the_schema_states_a_limit_for_every_number_text_list_and_section() -> None:
    assert unlimited({"a": {"type": "integer", "minimum": 1}}) == ["/a"]
    assert unlimited(json_schema()) == []


def test_the_host_of_a_rehearsal_is_offered_to_nobody_and_still_understood() -> None:
    assert "rehearsed" not in json.dumps(json_schema()).lower()
    entry = '{name: a, host: rehearsed, id: x, base_url: "http://127.0.0.1:1"}'
    assert study(models(entry)).spec.models[0].host == "rehearsed"


@pytest.mark.parametrize(
    "text",
    [
        *(BASE, BASE + "questions: art", BASE + "intensities: 0.5", BASE + "states: [0, 90]", BASE + "states: happy"),
        *(BASE + "states: [happy, 90, {valence: 1, arousal: 0}]", BASE + "questions: ['Why?']"),
        models("{name: Émile, host: scripted}"),
    ],
)
def test_an_editor_that_knows_the_schema_sees_no_mistake_where_there_is_none(text: str) -> None:
    assert schema_accepts(text)


def test_the_schema_beside_the_specs_is_the_one_that_plan_prints() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "emoray", "plan", "--schema"], capture_output=True, text=True, check=True
    ).stdout
    assert printed == (JOBS / "spec.schema.json").read_text(), "make schema writes it"
    jsonschema.Draft202012Validator.check_schema(json.loads(printed))


def sizes(names: Sequence[str]) -> dict[str, int]:
    return {name: load(JOBS / name).experiment.cells_per_model for name in names}


def test_the_shipped_specs_ask_what_they_say() -> None:
    assert sizes(["paper.yaml", "quickstart.yaml", "overnight.yaml"]) == {
        "paper.yaml": 120,  # the paper's
        "quickstart.yaml": 360,
        "overnight.yaml": 120_000 + 244,  # with its canaries
    }
    paper = load(JOBS / "paper.yaml")
    assert len(paper.spec.models) == 9
    assert len(paper.experiment) == 1080


@pytest.mark.parametrize("path", [JOBS / "paper.yaml", JOBS / "overnight.yaml"], ids=lambda path: str(path.name))
def test_a_shipped_spec_of_real_models_is_read_by_more_than_one(path: Path) -> None:
    assert [reader.name for reader in load(path).spec.readers] == ["paper", "roberta"]


def test_what_a_shipped_spec_proposes_in_a_comment_can_be_taken_up() -> None:
    text = (JOBS / "paper.yaml").read_text()
    for line in re.findall(r"^ *# (?:- name: judge|  kind: judge|  model: \{|canaries:).*$", text, re.MULTILINE):
        text = text.replace(line, line.replace("# ", "", 1))
    found = study(text)
    assert [reader.kind for reader in found.spec.readers] == ["goemotions", "goemotions", "judge"]
    assert found.experiment.canaries_per_model == 20


def lanes(spec: Spec, *gpus: int) -> tuple[list[str], bool]:
    """On nodes with so many GPUs: the open models that can never run, and whether the others run side by side."""
    nodes = [Node(cpus=16, gpus=n) for n in gpus]
    entries = sorted((m for m in spec.models if isinstance(m, Vllm)), key=lambda m: -m.tensor_parallel_size)
    never = [entry.name for entry in entries if refusal(entry, spec.readers, nodes)]
    rooms = FreeResources(nodes)
    seats = [seated(demand(m, spec.readers, nodes), rooms) for m in entries if m.name not in never]
    return never, None not in seats


def test_the_papers_open_models_run_side_by_side_on_five_gpus_and_take_turns_on_four() -> None:
    spec = load(JOBS / "paper.yaml").spec
    assert lanes(spec, 5) == lanes(spec, 4, 1) == ([], True)
    assert lanes(spec, 4) == ([], False)


def test_the_overnight_run_takes_five_gpus_or_four_and_readers_on_cpus() -> None:
    spec = load(JOBS / "overnight.yaml").spec
    assert lanes(spec, 5) == lanes(spec, 4, 1) == ([], True)
    assert lanes(spec, 4)[0] == ["Llama3 70B Instruct"]
    assert lanes(load(JOBS / "overnight.yaml", ["readers[0].gpus=0", "readers[1].gpus=0"]).spec, 4) == ([], False)


@pytest.mark.parametrize("gpus", [1, 2, 4])
def test_the_small_model_fits_one_gpu_however_few_there_are(gpus: int) -> None:
    assert "Llama3 8B Instruct" not in lanes(load(JOBS / "overnight.yaml").spec, gpus)[0]


def listed(choose: st.SearchStrategy[Any], most: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(choose, min_size=1, max_size=most, unique=True)


specs = st.fixed_dictionaries(
    {
        "models": listed(st.sampled_from(["a", "b", "c"]), 3).map(
            lambda names: [{"name": name, "host": "scripted"} for name in names]
        ),
        "states": st.integers(1, 7) | listed(st.integers(0, 359), 5),
        "repetitions": st.integers(1, 9),
    },
    optional={
        "intensities": listed(st.integers(1, 10).map(lambda tenths: tenths / 10), 3),
        "templates": listed(st.sampled_from(texts.shipped_templates()), 3),
        "questions": listed(st.sampled_from(list(texts.shipped_questions())), 4) | st.just("all"),
        "canaries": st.fixed_dictionaries({"every": st.integers(1, 40), "prompts": st.integers(1, 6)}),
        "seed": st.integers(0, 2**63 - 1),
    },
)


@settings(max_examples=60, deadline=None)
@given(specs)
def test_the_number_of_cells_is_the_product_for_any_spec(wanted: dict[str, Any]) -> None:
    e = study(yaml.safe_dump({"name": "t", "readers": [{"kind": "scripted", "name": "r"}], **wanted})).experiment
    states = wanted["states"] if isinstance(wanted["states"], int) else len(wanted["states"])
    questions = wanted.get("questions", "all")
    shape = (states, len(wanted.get("intensities", "1")), len(wanted.get("templates", "1")))
    prompts_asked = math.prod(shape) * (10 if questions == "all" else len(questions))
    measured, watch = prompts_asked * wanted["repetitions"], wanted.get("canaries")
    rounds = 1 + math.ceil(measured / watch["every"]) if watch else 0
    canaries = rounds * min(watch["prompts"], prompts_asked) if watch else 0
    for model in wanted["models"]:
        cells = list(e.grid(model["name"]).cells())
        assert sum(cell.canary for cell in cells) == canaries
        assert len(cells) == len(e.grid(model["name"])) == measured + canaries
    assert len(e) == len(wanted["models"]) * (measured + canaries)


def test_what_of_an_engines_own_settings_changes_what_is_said_is_part_of_every_key_and_the_rest_is_not() -> None:
    def key(**settings: Any) -> str:
        entry = {"name": "a", "host": "vllm", "id": "some/model", "engine_kwargs": settings}
        return next(prompts(parse(json.dumps({"name": "t", "models": [entry]})).experiment.grid("a"))).key

    assert key() == key(max_num_batched_tokens=4096, enable_prefix_caching=False)
    stretched, turned = ({"rope_scaling": {"rope_type": "yarn", "factor": factor}} for factor in (2.0, 4.0))
    assert len({key(), key(hf_overrides=stretched), key(hf_overrides=turned), key(kv_cache_dtype="fp8")}) == 4
