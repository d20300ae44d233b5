# For the tests of the packages. Exit status 77: skipped, with the reason.
set -euo pipefail
export LC_ALL=C.UTF-8
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
packages=${SLMD_TEST_PACKAGES:-$source/build/packages}
suite=${SLMD_TEST_SUITE:-$(. /etc/os-release && echo "$VERSION_CODENAME")}
native=$(dpkg --print-architecture)

fail() { echo "FAILED: $*" >&2; exit 1; }
skip() { echo "SKIPPED: $*" >&2; exit 77; }
need() { # TOOL PACKAGE
    command -v "$1" >/dev/null || skip "$1 is not here (Debian package $2): toolchain/install-dependencies --package"
}
need_root() {
    [ "$(id -u)" = 0 ] || skip "needs root, to make a root file system with its own users"
    unshare --mount --pid --fork true 2>/dev/null || skip "this container does not let root make namespaces"
}

work=
start_work() {
    work=$(mktemp -d "${TMPDIR:-/tmp}/slmd-package.XXXXXX")
    trap 'rm -rf --one-file-system "$work"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

deb_of() { # PACKAGE ARCH
    local deb
    deb=$(echo "$packages/$1"_*"_$2".deb)
    [ -e "$deb" ] || fail "there is no package $1 for $2 in build/packages: run toolchain/package"
    echo "$deb"
}

# Unpacks a clean Debian of this release with what the package depends on to $1. It is made once, and kept outside the tree.
clean_root() { # FOLDER ARCH[,ARCH that packages of the first may stand beside] DEB [MORE PACKAGES]
    local folder=$1 arch=$2 deb=$3 more=${4:-} cache include tar
    need mmdebstrap mmdebstrap
    if [ -n "${SLMD_CACHE:-}" ]; then cache=$SLMD_CACHE
    elif [ -n "${XDG_CACHE_HOME:-}" ]; then cache=$XDG_CACHE_HOME/slmd
    else cache=${HOME:?neither SLMD_CACHE, XDG_CACHE_HOME nor HOME is set}/.cache/slmd; fi
    mkdir -p "$cache/roots"
    [ "${arch%%,*}" = "$native" ] || more="$more,base-files,base-passwd"
    include=$( (dpkg-deb -f "$deb" Depends; echo "$more") | tr ',' '\n' | sed 's/^ *//; s/[ (|].*//' | grep . | sort -u | paste -sd,)
    tar=$cache/roots/$suite-${arch/,/+}-$(echo "$include" | sha256sum | cut -c1-8).tar
    exec 8>"$cache/roots/.lock"
    flock 8
    if [ ! -e "$tar" ]; then
        local how=(--variant=minbase)
        # Without a program of the other architecture being run: packages are unpacked, and not configured.
        [ "${arch%%,*}" = "$native" ] || how=(--variant=extract "--extract-hook=$source/tests/packaging/register_unpacked.sh")
        mmdebstrap "${how[@]}" --architectures="$arch" --include="$include" "$suite" "${tar%.tar}.new.tar" >"$tar.log" 2>&1 || {
            tail -5 "$tar.log" >&2
            rm -f "${tar%.tar}.new.tar"
            skip "no clean Debian $suite for $arch can be made here (is there a mirror?)"
        }
        mv "${tar%.tar}.new.tar" "$tar"
    fi
    exec 8>&-
    mkdir -p "$folder"
    tar -xf "$tar" -C "$folder" --exclude='./dev/*'
}

# Everything in a root, but for what dpkg writes of itself.
files_of() { # FOLDER
    (cd "$1" && find . -xdev -mindepth 1 \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./var/lib/dpkg -o -path ./var/cache -o -path ./var/log \) -prune -o -print | sort)
}

# A program in a root, with a /proc of its own; nothing is left mounted.
in_root() { # FOLDER COMMAND...
    local folder=$1
    shift
    unshare --mount --pid --fork --propagation private sh -c 'mount -t proc proc "$0/proc" && mount -t tmpfs -o mode=755 tmpfs "$0/dev" && mknod -m 666 "$0/dev/null" c 1 3 && exec chroot "$@"' \
        "$folder" "$folder" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"
}

# The same package with a lower version and another default configuration: what one upgrades from.
older() { # DEB TARGET
    local tree=$work/older
    rm -rf "$tree"
    dpkg-deb -R "$1" "$tree"
    sed -i 's/^Version: .*/Version: 0.0.9-1/' "$tree/DEBIAN/control"
    echo "# A line that the newer version no longer has." >>"$tree/etc/slmd/slmd.toml"
    dpkg-deb --root-owner-group -b "$tree" "$2" >/dev/null
}
