# For the scripts beside this one, which source it from the top folder: what they build with, and where.
cargo=${CARGO:-cargo}
command -v "$cargo" >/dev/null || export PATH="$HOME/.cargo/bin:$PATH"
target=$(realpath --canonicalize-missing "${CARGO_TARGET_DIR:-target}")

# newest FILE…: the file that was written last, if any is there.
newest() { ls --sort=time -- "$@" 2>/dev/null | head --lines=1 || true; }

# link_rocksdb LIBRARY…: has the newest of these libraries of RocksDB linked, where one is there and nobody has said which.
link_rocksdb() {
    local library
    [ -z "${ROCKSDB_LIB_DIR:-}" ] || return 0
    library=$(newest "$@")
    [ -n "$library" ] || return 0
    export ROCKSDB_STATIC=1
    ROCKSDB_LIB_DIR=$(dirname "$library")
    export ROCKSDB_LIB_DIR
}

# RocksDB of the dev profile is compiled with optimisation too (Cargo.toml), so it is linked rather than compiled a
# second time.
of_dev=("$target"/debug/build/librocksdb-sys-*/out/librocksdb.a)
of_release=("$target"/release/build/librocksdb-sys-*/out/librocksdb.a)
