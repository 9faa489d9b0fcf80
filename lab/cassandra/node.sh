#!/bin/sh
# node.sh FOLDER JARS GROUP…  one Cassandra node, until it is killed
set -eu
here=$(dirname "$0") folder=$1 jars=$2
shift 2
for group; do echo $$ >"$group/cgroup.procs"; done
exec java "@$here/java.options" "-Dcassandra.config=file://$folder/cassandra.yaml" "-Dcassandra.storagedir=$folder/data" \
    "-Dlogback.configurationFile=$here/logback.xml" -cp "$folder:$jars/*" org.apache.cassandra.service.CassandraDaemon
