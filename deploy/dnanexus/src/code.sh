#!/bin/bash
# shellcheck disable=SC2154  # the inputs of a job are variables
# LVM-AI on DNAnexus. Research software, not for clinical use.
#
# `main` starts the jobs: shards of lvm-ai ingest, `gather`, shards of lvm-ai score, `gather`. Jobs
# share no folder: each shard gives back its run folder as an archive, and `gather` puts the shards
# together and closes the run. How to use it: docs/running_on_dnanexus.md.

main() {
    if [ -z "${ecg_folder:-}" ] && [ "${#ecgs[@]}" = 0 ]; then
        fail "nothing to score: give ecg_folder, a folder of this project, or ecgs, files"
    fi
    local sources=() job parts=()
    [ -z "${ecg_folder:-}" ] || sources+=("-iecg_folder:string=$ecg_folder")
    local ecg
    for ecg in "${ecgs[@]}"; do
        sources+=("-iecgs=$ecg")
    done

    if [ "$device_files" = true ]; then
        local words=()
        give words ingest_options
        [ -z "${id_pattern:-}" ] || words+=("-iwords:array:string=--id-pattern" "-iwords:array:string=$id_pattern")
        start_shards parts ingest "${sources[@]}" "${words[@]}"
        job=$(gather_job ingested "${parts[@]}")
        dx-jobutil-add-output ingested "$job:run_folder" --class=jobref
        sources=("-iingested=$job:run_folder")
    fi

    local words=()
    give words score_options
    if [ -n "${model_file:-}" ]; then
        words+=("-imodel_file=$model_file")
    else
        words+=("-iwords:array:string=--model" "-iwords:array:string=$model")
    fi
    if [ -n "${participants_layout:-}" ]; then
        words+=("-iwords:array:string=--participants-layout" "-iwords:array:string=$participants_layout")
    fi
    [ -z "${participants:-}" ] || words+=("-iparticipants=$participants")
    start_shards parts score "${sources[@]}" "${words[@]}"
    job=$(gather_job scored "${parts[@]}")
    dx-jobutil-add-output scored "$job:run_folder" --class=jobref
    dx-jobutil-add-output predictions "$job:predictions" --class=jobref
    dx-jobutil-add-output report "$job:report" --class=jobref
}

# give NAME OPTIONS: append the elements of the array OPTIONS to NAME, as inputs of a job.
give() {
    local -n given=$1 options=$2
    local word
    for word in "${options[@]}"; do
        given+=("-iwords:array:string=$word")
    done
}

# start_shards NAME COMMAND INPUTS: start all shards of a command; their archives go to NAME.
start_shards() {
    local -n started=$1
    local command_name=$2 number shard_job
    shift 2
    started=()
    for ((number = 1; number <= shards; number++)); do
        shard_job=$(dx-jobutil-new-job shard --name "$command_name $number of $shards" \
            -icommand_name:string="$command_name" -inumber:int="$number" -icount:int="$shards" \
            -iimage="$image" ${exclude_participants:+"-iexclude_participants=$exclude_participants"} "$@")
        started+=("-iparts=$shard_job:part")
    done
}

# gather_job NAME PARTS: start the job that closes a run, and print its id.
gather_job() {
    local name=$1 words=()
    shift
    give words finish_options
    dx-jobutil-new-job gather --name "gather $name" -iname:string="$name" -iimage="$image" "$@" "${words[@]}"
}

# One shard of lvm-ai ingest or lvm-ai score, in a run folder of its own.
shard() {
    local inputs=() options=() file
    dx-download-all-inputs
    load_image
    if [ -d in/ingested ]; then
        mkdir unpacked
        tar -xf in/ingested/* -C unpacked
        inputs+=(unpacked/*)
    fi
    # All files in one folder, so that their paths below it do not depend on where a job gets them.
    if [ -d in/ecgs ]; then
        mkdir files
        while IFS= read -r -d '' file; do
            [ ! -e "files/${file##*/}" ] \
                || fail "two of the ecgs are named ${file##*/}; put them into an archive with different paths"
            mv "$file" files/
        done < <(find in/ecgs -type f -print0)
        inputs+=(files)
    fi
    if [ -n "${ecg_folder:-}" ]; then
        mount_project
        inputs+=("mounted/project${ecg_folder%/}")
    fi
    for file in participants exclude_participants; do
        [ ! -d "in/$file" ] || options+=("--${file//_/-}" "$(echo "in/$file"/*)")
    done
    [ ! -d in/model_file ] || options+=(--model "$(echo in/model_file/*)")

    lvm_ai "$command_name" --input "${inputs[@]}" --output part --shard "$number/$count" "${options[@]}" "${words[@]}"
    mkdir -p out/part
    # Models and networks are needed by this job only; `gather` needs the digests of excluded people.
    tar -cf "out/part/$command_name-$number-of-$count.tar" --exclude=./work/models --exclude=./work/networks -C part .
    dx-upload-all-outputs
}

# Put the run folders of all shards together and close the run.
gather() {
    local archive file
    dx-download-all-inputs
    load_image
    mkdir part "$name"
    while IFS= read -r -d '' archive; do
        tar -xf "$archive" -C part
        for file in plan.json participants.parquet; do
            if [ -e "$name/plan.json" ] && [ -e "part/$file" ] && ! cmp "part/$file" "$name/$file"; then
                fail "the shards planned this run differently ($file differs), so that their results do not belong" \
                    "together. Did all of them get the same files and the same image?"
            fi
        done
        # A shard that found all units done has closed the run by itself; it is closed again below.
        rm -f part/_SUCCESS part/run_report.json part/duplicates.parquet
        cp -a part/. "$name"
        rm -rf part
        mkdir part
    done < <(find in/parts -type f -print0 | sort -z)

    lvm_ai finish "$name" "${words[@]}"
    mkdir -p out/run_folder out/report
    tar -cf "out/run_folder/$name.tar" "$name"
    cp "$name/run_report.json" "out/report/${name}_report.json"
    dx-upload-all-outputs
    # One by one: of a single file, dx-upload-all-outputs would make no array.
    for file in "$name"/predictions/*.parquet; do
        [ ! -e "$file" ] || dx-jobutil-add-output predictions "$(dx upload --brief "$file")" --class=array:file
    done
}

# Load the container image; its name goes to `image_name`.
load_image() {
    image_name=$(docker load -q -i "$(echo in/image/*)" | sed -n 's/^Loaded image\( ID\)\?: //p' | head -n 1)
    [ -n "$image_name" ] || fail "the image input holds no container image; expected an archive made by docker save"
    rm -f in/image/*
}

# Run lvm-ai in the container, without a network and as this user. It sees this folder alone.
lvm_ai() {
    docker run --rm --network none --user "$(id -u):$(id -g)" --volume "$PWD:$PWD" --workdir "$PWD" \
        --entrypoint lvm-ai "$image_name" "$@"
}

# Show the project, read-only, as the folder mounted/project.
mount_project() {
    mkdir -p mounted
    cat > manifest.json <<EOF
{
  "files": [],
  "directories": [{"proj_id": "$DX_PROJECT_CONTEXT_ID", "folder": "/", "dirname": "/project"}]
}
EOF
    dxfuse -readOnly "$PWD/mounted" manifest.json
    [ -d "mounted/project${ecg_folder%/}" ] || fail "the project has no folder $ecg_folder"
}

# Say what is wrong where the platform shows it, and end the job.
fail() {
    dx-jobutil-report-error "$*" AppError
    exit 1
}
