#!/bin/bash
# Deduplicates a folder with ranks on several machines by Open MPI's mpirun, on storage that all of them see:
#   HOSTFILE=hosts RANKS=8 INPUT=/shared/in OUTPUT=/shared/clean deploy/mpirun.sh [options of dovetail dedup]
# hosts has a line for each machine, such as: node1 slots=4. One rank for each GPU, or for each socket, is what is meant. Without HOSTFILE all ranks
# are on this machine, or where the batch system says. More options of mpirun go into MPIRUN_FLAGS.
set -euo pipefail

input=${INPUT:?give the folder to read}
output=${OUTPUT:?give the folder for the result}
flags=(-n "${RANKS:?give the number of ranks}" --bind-to none) # ranks on one machine divide its CPUs and GPUs themselves
if [ -n "${HOSTFILE:-}" ]; then flags+=(--hostfile "$HOSTFILE"); fi
# A rank that dies must not take the others with it.
mpirun=${MPIRUN:-mpirun}
if [[ $("$mpirun" --version) == *" 4."* ]]; then flags+=(--enable-recovery); else flags+=(--runtime-options recoverable); fi
# A build with the tag pmix needs nothing else. Others do when there are several machines: DOVETAIL_ROOT=node1:7600 and DOVETAIL_SECRET_FILE.
for name in DOVETAIL_ROOT DOVETAIL_ROOT_PORT DOVETAIL_SECRET_FILE DOVETAIL_DATA_HOST DOVETAIL_PMIX_LIBRARY; do
    if [ -n "${!name:-}" ]; then flags+=(-x "$name"); fi
done

# If rank 0 dies the same command goes on where it was. Rank 0 says on standard output what was done when it is, which tells more than mpirun's exit
# code: with recovery, Open MPI 4 returns 0 whatever became of the ranks.
for try in 1 2 3; do
    code=0 said=
    # shellcheck disable=SC2086
    said=$("$mpirun" "${flags[@]}" ${MPIRUN_FLAGS:-} "${DOVETAIL:-dovetail}" dedup --input "$input" --output "$output" --progress plain "$@") || code=$?
    if [ -n "$said" ]; then printf '%s\n' "$said"; fi
    if [[ $said == *digest* ]]; then exit $((code == 3 ? 3 : 0)); fi # 3: done, but bad files were left out
    if [ ! -e "$output.work" ]; then exit $((code ? code : 1)); fi # nothing was saved, so it would end the same way
    echo "try $try ended with $code" >&2
done
exit 1
