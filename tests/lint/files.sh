#!/bin/sh
# Rules of the source files: size, and what a library must not call. The command may print and end;
# memory comes from base/mem.c, the environment is read in base/knobs.c.
set -eu
cd "$(dirname "$0")/../.."
failed=0

# forbid PATTERN WHY: no file named on standard input may have a line that matches, comments aside.
forbid() {
    xargs awk -v pattern="$1" -v why="$2" '
        {
            line = $0
            sub("//.*", "", line)
            sub("/[*].*[*]/", "", line)
            sub("^ [*] .*", "", line)
            if (line ~ pattern) { print FILENAME ":" FNR ":" $0 "\n  " why; bad = 1 }
        }
        END { exit bad }'
}

# Whole words: not the end of a longer name, nor a member of a struct.
word='(^|[^_a-zA-Z0-9.>])'
files=$(find src kernels -name '*.[ch]')
library=$(echo "$files" | grep -v '^src/cli/')
too_long=$(echo "$files" | xargs wc -l | awk '$2 != "total" && $1 > 700 { print $2 " has " $1 " lines; split files at 700" }')
if [ -n "$too_long" ]; then
    echo "$too_long"
    failed=1
fi
echo "$library" | grep -v '^src/base/knobs\.c$' |
    forbid "$word(secure_)?getenv *[(]" 'knobs are read in src/base/knobs.c' || failed=1
echo "$library" | forbid "$word(printf|puts|putchar|perror|abort|exit|_exit|system) *[(]" \
    'a library does not print or end the process' || failed=1
echo "$library" | forbid 'f(printf|puts|putc) *[(](stdout|stderr)' 'a library does not print' || failed=1
echo "$library" | grep -v '^src/base/mem\.c$' |
    forbid "$word(malloc|calloc|realloc|strdup|strndup|asprintf|aligned_alloc|alloca) *[(]" \
        'memory comes from sp_alloc' || failed=1
echo "$files" | forbid "(^|[^_a-zA-Z0-9])(strcpy|strcat|sprintf|gets|strtok|rand|srand) *[(]" \
    'there is a safer function' || failed=1
if grep -rnE '^(<<<<<<<|>>>>>>>) ' --include='*.md' --include='*.[ch]' --include='*.cu' --include='*.sh' --include='*.py' \
    --include='*.txt' --include='*.yaml' README.md .ci bench docs examples include kernels models platforms scripts src tests; then
    echo 'leftovers of a merge'
    failed=1
fi
exit $failed
