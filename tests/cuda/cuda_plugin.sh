#!/bin/sh
# The CUDA plug-in exports one symbol, needs no CUDA library to be loaded, and without a driver answers with a reason.
plugin=$1/libsparoa_cuda.so
[ -f "$plugin" ] || { echo "skipped: no CUDA plug-in was built"; exit 0; }
symbols=$(nm -D --defined-only "$plugin" | awk '$2 != "A" {print $3}')
[ "$symbols" = sparoa_backend_query ] || { echo "exports: $symbols"; exit 1; }
if readelf -d "$plugin" | grep NEEDED | grep -E 'cuda|cudnn|cublas|sparoa|stdc'; then
    echo "the plug-in needs a library that may not be there"
    exit 1
fi
[ -c /dev/nvidiactl ] && exit 0 # gpu_check says more
out=$("$1"/gpu_check "$plugin")
code=$?
echo "$out"
[ $code = 77 ] || { echo "exit code $code, expected 77"; exit 1; }
case $out in "no device: no "*) ;; *) echo "no reason was given"; exit 1 ;; esac
