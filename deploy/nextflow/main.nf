#!/usr/bin/env nextflow

// LVM-AI as a workflow: ingest, score, analyse. Research software, not for clinical use.
//
// Each shard of a run has a run folder of its own; GATHER puts the shards together and closes the
// run: one run folder, one report. How to use it: docs/running_on_nextflow.md.

nextflow.enable.dsl = 2

include { SHARD as INGEST; SHARD as SCORE; GATHER as GATHER_INGESTED; GATHER as GATHER_SCORED; ANALYSE } from './tasks.nf'

// The files of a parameter: a path, a quoted glob, or a list of these; none where it is not given.
def filesOf(value) {
    if (!value) {
        return []
    }
    def found = (value instanceof List ? value : [value]).collectMany { one ->
        def files = file(one, checkIfExists: true)
        files instanceof List ? files : [files]
    }
    found.sort { it.toString() }
}

def inPlace() {
    (params.ecg_addresses instanceof List ? params.ecg_addresses : [params.ecg_addresses]).findAll { it }
}

workflow {
    if (!params.ecgs && !inPlace()) {
        error "Nothing to score: give --ecgs (files, a folder or a quoted glob) or --ecg_addresses (s3:// or gs://)"
    }
    if (params.ecgs && inPlace()) {
        error "Both --ecgs and --ecg_addresses are given; expected one of them"
    }
    numbers = Channel.of(1..params.shards)
    ecgs = filesOf(params.ecgs)
    addresses = inPlace()
    excluded = filesOf(params.exclude_participants)

    if (params.device_files) {
        words = params.id_pattern ? ['--id-pattern', params.id_pattern] : []
        INGEST('ingest', numbers, ecgs, addresses, [], [], excluded, words, params.ingest_options)
        GATHER_INGESTED(INGEST.out.collect(), 'ingested', params.finish_options)
        ecgs = GATHER_INGESTED.out
        addresses = []
    }

    words = params.model_file ? [] : ['--model', params.model]
    words += params.participants_layout ? ['--participants-layout', params.participants_layout] : []
    SCORE(
        'score', numbers, ecgs, addresses, filesOf(params.model_file), filesOf(params.participants), excluded,
        words, params.score_options
    )
    GATHER_SCORED(SCORE.out.collect(), 'scored', params.finish_options)

    if (params.study) {
        ANALYSE(GATHER_SCORED.out, filesOf(params.study), filesOf(params.study_tables))
    }
}
