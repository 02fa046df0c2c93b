#!/bin/sh
# Rules of the source files: size, and what a library must not call. The command may print and end;
# memory comes from base/mem.c, the environment is read in base/knobs.c.
set -eu
cd "$(dirname "$0")/../.."
failed=0

# forbid PATTERN WHY FILE...: no file may have a line that matches, comments aside.
forbid() {
    pattern=$1 why=$2
    shift 2
    for file in "$@"; do
        if sed -e 's://.*::' -e 's:/\*.*\*/::' -e 's:^ \* .*::' "$file" | grep -nE "$pattern" |
            sed "s#^#$file:#" | grep .; then
            echo "  $why"
            failed=1
        fi
    done
}

for file in $(find src kernels include -name '*.[ch]'); do
    lines=$(wc -l <"$file")
    if [ "$lines" -gt 700 ]; then
        echo "$file has $lines lines; split files at 700"
        failed=1
    fi
done
library=$(find src kernels -name '*.[ch]' ! -path 'src/cli/*')
forbid '(^|[^_[:alnum:].>])(secure_)?getenv *\(' 'knobs are read in src/base/knobs.c' \
    $(echo "$library" | tr ' ' '\n' | grep -v '^src/base/knobs\.c$')
forbid '(^|[^_[:alnum:].>])(printf|puts|putchar|perror|abort|exit|_exit|system) *\(' \
    'a library does not print or end the process' $library
forbid 'f(printf|puts|putc) *\((stdout|stderr)' 'a library does not print' $library
forbid '(^|[^_[:alnum:].>])(malloc|calloc|realloc|strdup|strndup|asprintf|aligned_alloc|alloca) *\(' \
    'memory comes from sp_alloc' $(echo "$library" | tr ' ' '\n' | grep -v '^src/base/mem\.c$')
forbid '(^|[^_[:alnum:]])(strcpy|strcat|sprintf|gets|strtok|rand|srand) *\(' \
    'there is a safer function' $(find src kernels -name '*.[ch]')
exit $failed
