#!/usr/bin/env bash
# Installs what building and testing need on Debian 12, with or without root; quick when all is there.
#
#   scripts/deps.sh         compiler, CMake, Ninja and the libraries
#   scripts/deps.sh --ci    also clang with its fuzzing and sanitizer runtimes, clang-format and the
#                           aarch64 cross compilers with qemu
#
# With root or sudo the packages are installed. Without, they are unpacked into build/deps, and
# build/deps/env.sh sets the paths; the other scripts read it, `. build/deps/env.sh` does it by hand.
# (clang unpacked so finds the machine's libc6-dev alone; all else works from the unpacked tree.)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
deps=$root/build/deps
env_file=$deps/env.sh

packages=(gcc libc6-dev make cmake ninja-build pkg-config libprotobuf-c-dev protobuf-c-compiler
    libcmocka-dev libyaml-dev libpng-dev libjpeg-dev)
ci_packages=(g++ clang libclang-rt-14-dev clang-format qemu-user gcc-aarch64-linux-gnu
    g++-aarch64-linux-gnu libc6-dev-arm64-cross)

usage() {
    sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

# True when the package is installed, unpacked by an earlier run, or its tool comes from elsewhere.
present() {
    case $1 in
        cmake) cmake_is_recent && return ;;
        ninja-build) command -v ninja >/dev/null && return ;;
        gcc | make | clang | clang-format) command -v "$1" >/dev/null && return ;;
        g++) command -v g++ >/dev/null && return ;;
        pkg-config) command -v pkg-config >/dev/null && return ;;
        protobuf-c-compiler) command -v protoc-c >/dev/null && return ;;
        qemu-user) command -v qemu-aarch64 >/dev/null && return ;;
        gcc-aarch64-linux-gnu) command -v aarch64-linux-gnu-gcc >/dev/null && return ;;
        g++-aarch64-linux-gnu) command -v aarch64-linux-gnu-g++ >/dev/null && return ;;
    esac
    [ -e "$deps/unpacked/$1" ] && return
    installed "$1"
}

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

cmake_is_recent() {
    local version
    version=$(cmake --version 2>/dev/null | sed -n '1s/[^0-9]*//p') || return 1
    [ -n "$version" ] && [ "$(printf '3.25\n%s\n' "$version" | sort -V | head -n 1)" = 3.25 ]
}

list_missing() {
    local package
    for package in "$@"; do
        present "$package" || echo "$package"
    done
}

install_as_root() {
    local apt=("$@")
    DEBIAN_FRONTEND=noninteractive "${apt[@]}" install -y --no-install-recommends "${missing[@]}" ||
        {
            "${apt[@]}" update
            DEBIAN_FRONTEND=noninteractive "${apt[@]}" install -y --no-install-recommends \
                "${missing[@]}"
        }
}

# The packages and all that they need and the machine lacks, as apt resolves it. A simulated
# installation reads the system's state and lists of packages; neither is written.
resolve() {
    apt-get "${apt_options[@]}" install --simulate --no-install-recommends "$@" |
        sed -n 's/^Inst \([^ ]*\) .*/\1/p'
}

# Lists of packages of our own, where the machine has none and we may not write there.
own_lists() {
    mkdir -p "$deps/apt/lists/partial" "$deps/apt/cache/archives/partial"
    apt_options=(-o "Dir::State::Lists=$deps/apt/lists" -o "Dir::Cache=$deps/apt/cache"
        -o "Debug::NoLocking=1" -o "APT::Sandbox::User=")
    apt-get "${apt_options[@]}" update
}

unpack_without_root() {
    local wanted debs=() deb package
    apt_options=(-o "Debug::NoLocking=1")
    mkdir -p "$deps/debs" "$deps/root" "$deps/unpacked"
    cd "$deps/debs"
    wanted=$(resolve "${missing[@]}" 2>/dev/null) || wanted=
    # shellcheck disable=SC2086 # one word for each package
    if [ -z "$wanted" ] || ! apt-get "${apt_options[@]}" download $wanted; then
        own_lists
        wanted=$(resolve "${missing[@]}")
        # shellcheck disable=SC2086
        apt-get "${apt_options[@]}" download $wanted
    fi
    debs=("$deps"/debs/*.deb)
    for deb in "${debs[@]}"; do
        dpkg -x "$deb" "$deps/root"
    done
    for package in "${missing[@]}"; do
        : >"$deps/unpacked/$package"
    done
    cd "$root"
    repair_links
    repair_linker_scripts
    write_env
}

# Development links such as libpng.so are relative and lead to the unpacked library, unless the
# machine had the library already: then they must lead to the machine's.
repair_links() {
    local link target
    find "$deps/root" -xtype l | while read -r link; do
        target=$(readlink "$link")
        case $target in
            /*) ;;
            *) target=$(dirname "${link#"$deps/root"}")/$target ;;
        esac
        if [ -e "$deps/root$target" ]; then
            ln -sfn "$deps/root$target" "$link"
        elif [ -e "$target" ]; then
            ln -sfn "$target" "$link"
        fi
    done
}

# libc.so and libm.so are texts that name the libraries by absolute path.
repair_linker_scripts() {
    local script path
    grep -rIl --include='lib*.so' --include='lib*.a' '^/\* GNU ld script' "$deps/root" |
        while read -r script; do
            # shellcheck disable=SC2013 # paths without spaces
            for path in $(grep -o '/[^ ()]*\.[^ ()]*' "$script"); do
                if [ -e "$deps/root$path" ] && [ ! -e "$path" ]; then
                    sed -i "s#\([ (]\)$path\([ )]\)#\1$deps/root$path\2#g" "$script"
                fi
            done
        done || true
}

write_env() {
    local triplet
    triplet=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || echo "$(uname -m)-linux-gnu")
    # pkg-config files name /usr; the sysroot puts the unpacked tree in front of it.
    cat >"$env_file" <<EOF
# Written by scripts/deps.sh: paths of the packages unpacked without root.
sparoa_deps=$deps/root
export PATH="\$sparoa_deps/usr/bin:\$sparoa_deps/bin:\$PATH"
export LD_LIBRARY_PATH="\$sparoa_deps/usr/lib/$triplet:\$sparoa_deps/lib/$triplet\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
export LIBRARY_PATH="\$sparoa_deps/usr/lib/$triplet\${LIBRARY_PATH:+:\$LIBRARY_PATH}"
export C_INCLUDE_PATH="\$sparoa_deps/usr/include:\$sparoa_deps/usr/include/$triplet\${C_INCLUDE_PATH:+:\$C_INCLUDE_PATH}"
export PKG_CONFIG_PATH="\$sparoa_deps/usr/lib/$triplet/pkgconfig:\$sparoa_deps/usr/share/pkgconfig\${PKG_CONFIG_PATH:+:\$PKG_CONFIG_PATH}"
export CMAKE_PREFIX_PATH="\$sparoa_deps/usr\${CMAKE_PREFIX_PATH:+:\$CMAKE_PREFIX_PATH}"
EOF
}

case ${1:-} in
    '') ;;
    --ci) packages+=("${ci_packages[@]}") ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
esac

# shellcheck source=/dev/null
[ ! -e "$env_file" ] || . "$env_file"
mapfile -t missing < <(list_missing "${packages[@]}")
[ "${#missing[@]}" -gt 0 ] || exit 0
command -v apt-get >/dev/null || {
    echo "deps.sh: no apt-get here; please install: ${missing[*]}" >&2
    exit 1
}
echo "deps.sh: missing: ${missing[*]}"
if [ "$(id -u)" = 0 ]; then
    install_as_root apt-get
elif sudo -n true 2>/dev/null; then
    install_as_root sudo -n apt-get
else
    unpack_without_root
fi
