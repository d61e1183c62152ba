// The tasks of main.nf. Words of a command are quoted for the shell; `options` are words as typed.

def quoted(words) {
    words.collect { "'" + it.toString().replace("'", "'\\''") + "'" }.join(' ')
}

// One shard of lvm-ai ingest or lvm-ai score, in a run folder of its own.
process SHARD {
    tag "${number}/${params.shards}"

    input:
    val command_name
    each number
    path ecgs, stageAs: 'files/*'
    val addresses
    path model_file, stageAs: 'model/*'
    path participants, stageAs: 'people/*'
    path excluded, stageAs: 'excluded/*'
    val words
    val options

    output:
    path "part-${number}"

    script:
    def given = words.collect()
    given += model_file ? ['--model', model_file] : []
    given += participants ? ['--participants', participants] : []
    given += excluded ? ['--exclude-participants', excluded] : []
    def inputs = addresses ?: ['files']
    """
    umask 077
    lvm-ai ${command_name} --input ${quoted(inputs)} --output part-${number} \\
        --shard ${number}/${params.shards} --threads ${task.cpus} ${quoted(given)} ${options}
    # Needed by this task only; GATHER needs the digests of excluded people, which are beside them.
    rm -rf part-${number}/work/models part-${number}/work/networks
    """
}

// Put the run folders of all shards together and close the run.
process GATHER {
    tag "${name}"
    publishDir params.output, mode: 'copy'

    input:
    path parts
    val name
    val options

    output:
    path "${name}"

    script:
    """
    umask 077
    mkdir '${name}'
    for part in ${quoted([parts].flatten())}; do
        for file in plan.json participants.parquet; do
            if [ -e '${name}/plan.json' ] && [ -e "\$part/\$file" ] && ! cmp "\$part/\$file" "${name}/\$file"; then
                echo "error: the shards planned this run differently (\$file differs), so that their results do" \\
                    "not belong together. Did all of them get the same files and the same image?" >&2
                exit 1
            fi
        done
        cp -a "\$part/." '${name}'
        # A shard that found all units done has closed the run by itself; it is closed again below.
        rm -f '${name}/_SUCCESS' '${name}/run_report.json' '${name}/duplicates.parquet'
    done
    lvm-ai finish '${name}' ${options}
    """
}

// A study of the predictions: tables, figures and a report.
process ANALYSE {
    publishDir params.output, mode: 'copy'

    input:
    path scored
    path study
    path tables

    output:
    path 'study'

    script:
    """
    umask 077
    [ '${study}' = study.yaml ] || ln -s '${study}' study.yaml
    lvm-ai analyse study.yaml --output study
    """
}
