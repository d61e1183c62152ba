version 1.0

# LVM-AI as a workflow: ingest, score, analyse. Research software, not for clinical use.
#
# Tasks share no folder. Each shard of a run gives back its run folder as an archive, and `gather`
# puts the shards together and closes the run: one run folder, one report.
# How to use it: docs/running_on_wdl.md.

struct Machine {
  String image
  Int cpu
  Int memory_gb
  Int disk_gb
  Int preemptible
  Int max_retries
}

workflow lvm_ai {
  meta {
    description: "Left ventricular mass from 12-lead ECGs. Research software, not for clinical use."
  }

  parameter_meta {
    ecgs: "Parquet, files of devices, or archives of them (.zip, .tar, .tar.gz); all names must differ"
    ecg_addresses: "ECGs that tasks read in place: s3:// or gs:// addresses, or paths that every task sees"
    device_files: "true: the ECGs are files of devices and are turned into ECG Parquet first"
    model: "identifier of a model in the image (lvm-ai models list)"
    model_file: "file of a model, instead of `model`"
    participants: "CSV or Parquet with age, sex and body size; needed where the model needs them"
    participants_layout: "what its columns mean: ukb, ukb-rap or omop; default: our own names and units"
    exclude_participants: "list of people to leave out"
    id_pattern: "for files of devices: regular expression with groups ecg_id and participant_id, or ukb-20205"
    ingest_options: "further words of the command lvm-ai ingest, one per element"
    score_options: "further words of the command lvm-ai score, one per element"
    finish_options: "further words of the command lvm-ai finish, one per element"
    shards: "tasks that share the work of a run"
    study: "study file of lvm-ai analyse; names the predictions scored/predictions, and its tables by file name"
    study_tables: "tables that the study names"
    image: "container image with the command lvm-ai"
    preemptible: "times that a task is tried on a preemptible machine before it gets a machine that stays"
    max_retries: "times that a failed task is tried again"
  }

  input {
    Array[File] ecgs = []
    Array[String] ecg_addresses = []
    Boolean device_files = false
    String model = "demo-synthetic-ecg-only"
    File? model_file
    File? participants
    String? participants_layout
    File? exclude_participants
    String? id_pattern
    Array[String] ingest_options = []
    Array[String] score_options = []
    Array[String] finish_options = []
    Int shards = 4
    File? study
    Array[File] study_tables = []
    String image
    Int cpu = 2
    Int memory_gb = 4
    Int disk_gb = 50
    Int preemptible = 3
    Int max_retries = 2
  }

  Machine machine = object {
    image: image,
    cpu: cpu,
    memory_gb: memory_gb,
    disk_gb: disk_gb,
    preemptible: preemptible,
    max_retries: max_retries
  }

  if (device_files) {
    scatter (i in range(shards)) {
      call shard as ingest {
        input:
          command_name = "ingest",
          ecgs = ecgs,
          ecg_addresses = ecg_addresses,
          exclude_participants = exclude_participants,
          id_pattern = id_pattern,
          options = ingest_options,
          number = i + 1,
          count = shards,
          machine = machine
      }
    }
    call gather as gather_ingested {
      input:
        parts = ingest.part,
        name = "ingested",
        options = finish_options,
        machine = machine
    }
  }

  scatter (i in range(shards)) {
    call shard as score {
      input:
        command_name = "score",
        run_folder = gather_ingested.run_folder,
        ecgs = if device_files then [] else ecgs,
        ecg_addresses = if device_files then [] else ecg_addresses,
        model = model,
        model_file = model_file,
        participants = participants,
        participants_layout = participants_layout,
        exclude_participants = exclude_participants,
        options = score_options,
        number = i + 1,
        count = shards,
        machine = machine
    }
  }
  call gather as gather_scored {
    input:
      parts = score.part,
      name = "scored",
      options = finish_options,
      machine = machine
  }

  if (defined(study)) {
    call analyse {
      input:
        scored = gather_scored.run_folder,
        study = select_first([study]),
        tables = study_tables,
        machine = machine
    }
  }

  output {
    File? ingested = gather_ingested.run_folder
    File? ingest_report = gather_ingested.report
    File scored = gather_scored.run_folder
    File score_report = gather_scored.report
    Array[File] predictions = gather_scored.predictions
    File? study_results = analyse.results
    File? study_export = analyse.export
  }
}

task shard {
  meta {
    description: "One shard of lvm-ai ingest or lvm-ai score, in a run folder of its own."
  }

  input {
    String command_name
    File? run_folder
    Array[File] ecgs
    Array[String] ecg_addresses
    String? model
    File? model_file
    File? participants
    String? participants_layout
    File? exclude_participants
    String? id_pattern
    Array[String] options
    Int number
    Int count
    Machine machine
  }

  command <<<
    set -euo pipefail
    umask 077
    inputs=()
    if [ -n "~{run_folder}" ]; then
      mkdir unpacked
      tar -xf "~{run_folder}" -C unpacked
      inputs+=(unpacked/*)
    fi
    # All files in one folder, so that their paths below it do not depend on where a task gets them.
    while IFS= read -r file || [ -n "$file" ]; do
      name=$(basename "$file")
      if [ -e "files/$name" ]; then
        echo "error: two of the ecgs are named $name; put them into an archive with different paths" >&2
        exit 2
      fi
      mkdir -p files
      ln -s "$file" "files/$name"
    done < "~{write_lines(ecgs)}"
    [ ! -d files ] || inputs+=(files)
    while IFS= read -r address || [ -n "$address" ]; do
      inputs+=("$address")
    done < "~{write_lines(ecg_addresses)}"
    options=()
    while IFS= read -r word || [ -n "$word" ]; do
      options+=("$word")
    done < "~{write_lines(options)}"
    add() {
      [ -z "$2" ] || options+=("$1" "$2")
    }
    add --model "~{if defined(model_file) then model_file else model}"
    add --participants "~{participants}"
    add --participants-layout "~{participants_layout}"
    add --exclude-participants "~{exclude_participants}"
    add --id-pattern '~{id_pattern}'

    lvm-ai ~{command_name} --input "${inputs[@]}" --output part --shard ~{number}/~{count} \
      --threads ~{machine.cpu} "${options[@]}"
    # Models and networks are needed by this task only; `gather` needs the digests of excluded people.
    tar -cf part.tar --exclude=./work/models --exclude=./work/networks -C part .
  >>>

  output {
    File part = "part.tar"
  }

  runtime {
    docker: machine.image
    cpu: machine.cpu
    memory: "~{machine.memory_gb} GB"
    disks: "local-disk ~{machine.disk_gb} HDD"
    bootDiskSizeGb: 20
    preemptible: machine.preemptible
    maxRetries: machine.max_retries
  }
}

task gather {
  meta {
    description: "Put the run folders of all shards together and close the run."
  }

  input {
    Array[File] parts
    String name
    Array[String] options
    Machine machine
  }

  command <<<
    set -euo pipefail
    umask 077
    mkdir part "~{name}"
    while IFS= read -r archive || [ -n "$archive" ]; do
      tar -xf "$archive" -C part
      for file in plan.json participants.parquet; do
        if [ -e "~{name}/plan.json" ] && [ -e "part/$file" ] && ! cmp "part/$file" "~{name}/$file"; then
          echo "error: the shards planned this run differently ($file differs), so that their results do not" \
            "belong together. Did all of them get the same files and the same image?" >&2
          exit 1
        fi
      done
      # A shard that found all units done has closed the run by itself; it is closed again below.
      rm -f part/_SUCCESS part/run_report.json part/duplicates.parquet
      cp -a part/. "~{name}"
      rm -rf part
      mkdir part
    done < "~{write_lines(parts)}"
    options=()
    while IFS= read -r word || [ -n "$word" ]; do
      options+=("$word")
    done < "~{write_lines(options)}"

    lvm-ai finish "~{name}" "${options[@]}"
    tar -cf "~{name}.tar" "~{name}"
  >>>

  output {
    File run_folder = "~{name}.tar"
    File report = "~{name}/run_report.json"
    Array[File] predictions = glob("~{name}/predictions/*.parquet")
  }

  runtime {
    docker: machine.image
    cpu: machine.cpu
    memory: "~{machine.memory_gb} GB"
    disks: "local-disk ~{machine.disk_gb} HDD"
    bootDiskSizeGb: 20
    preemptible: machine.preemptible
    maxRetries: machine.max_retries
  }
}

task analyse {
  meta {
    description: "A study of the predictions: tables, figures and a report."
  }

  input {
    File scored
    File study
    Array[File] tables
    Machine machine
  }

  command <<<
    set -euo pipefail
    umask 077
    tar -xf "~{scored}"
    cp "~{study}" study.yaml
    while IFS= read -r file || [ -n "$file" ]; do
      ln -s "$file" "$(basename "$file")"
    done < "~{write_lines(tables)}"

    lvm-ai analyse study.yaml --output study
    tar -cf study.tar study
    tar -cf export.tar -C study export
  >>>

  output {
    File results = "study.tar"
    File export = "export.tar"
  }

  runtime {
    docker: machine.image
    cpu: machine.cpu
    memory: "~{machine.memory_gb} GB"
    disks: "local-disk ~{machine.disk_gb} HDD"
    bootDiskSizeGb: 20
    preemptible: machine.preemptible
    maxRetries: machine.max_retries
  }
}
