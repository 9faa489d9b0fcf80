#!/bin/sh
# node.sh FOLDER JARS GROUP…  one Cassandra node, until it is killed
set -eu
here=$(dirname "$0") folder=$1 jars=$2
shift 2
rm -rf "$folder/tmp" && mkdir "$folder/tmp"  # of one that was killed
for group; do echo $$ >"$group/cgroup.procs"; done
exec java "@$here/java.options" "-Dcassandra.config=file://$folder/cassandra.yaml" "-Dcassandra.storagedir=$folder/data" \
    "-Djava.io.tmpdir=$folder/tmp" "-Djna.tmpdir=$folder/tmp" \
    "-Dlogback.configurationFile=$here/logback.xml" -cp "$folder:$jars/*" org.apache.cassandra.service.CassandraDaemon
