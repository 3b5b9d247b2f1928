//! Compiles `proto/` into Rust, by protox: no protoc is looked for, on any machine.
//!
//! Writes one module tree (`flareshift.rs`) and the descriptor set that gRPC reflection serves, comments included.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use protox::prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo sets CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let root = manifest.join("../../proto").canonicalize()?;
    println!("cargo:rerun-if-changed={}", root.display());

    let descriptors = protox::compile(proto_files(&root)?, [&root])?;
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // Maps are ordered, so that one message has one encoding and tests can compare.
        .btree_map(".")
        .codec_path("crate::codec::Codec")
        .include_file("flareshift.rs")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}

/// All `.proto` files below `folder`, in order of path.
fn proto_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(proto_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
