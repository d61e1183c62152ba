#!/bin/sh
# Starts Nextflow from the jars that deploy/nextflow/pom.xml fetched into build/nextflow, or into the
# folder that NEXTFLOW_JARS names. Needs Java 17 or newer.
set -eu
jars=${NEXTFLOW_JARS:-$(dirname "$0")/../../build/nextflow}
if ! ls "$jars"/nextflow-[0-9]*.jar >/dev/null 2>&1; then
    echo "error: no Nextflow in $jars; deploy/nextflow/pom.xml fetches it (docs/running_on_nextflow.md)" >&2
    exit 2
fi
opens=
# What Nextflow's own launcher opens to it.
for package in java.lang java.io java.nio java.nio.file.spi java.net java.util java.util.concurrent.locks \
    java.util.concurrent.atomic java.util.regex sun.nio.ch sun.nio.fs sun.net.www.protocol.http \
    sun.net.www.protocol.https sun.net.www.protocol.ftp sun.net.www.protocol.file jdk.internal.misc jdk.internal.vm; do
    opens="$opens --add-opens=java.base/$package=ALL-UNNAMED"
done
# shellcheck disable=SC2086  # options without spaces
exec "${JAVA_CMD:-java}" $opens -cp "$jars/*" nextflow.cli.Launcher "$@"
