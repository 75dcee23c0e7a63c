#!/bin/sh
# Prints names.h: FUNCTION(name) for every function that cuda.h declares, by its name in the library. The arguments are the
# compiler and its flags.
set -eu
export LC_ALL=C
echo '#include <cuda.h>' | "$@" -E -P -x c - | grep -o '^CUresult  *cu[A-Z][A-Za-z0-9_]*(' |
	sed 's/^CUresult *//; s/(.*/)/; s/^/FUNCTION(/' | sort -u
