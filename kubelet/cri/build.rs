//! Compiles the vendored CRI definition and the short form of its lists; no external compiler is needed.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    compile("proto/api.proto", out.clone())?;
    // Of the same package, so its file has the same name.
    compile("proto/brief.proto", out.join("brief"))
}

fn compile(definition: &str, out: PathBuf) -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={definition}");
    fs::create_dir_all(&out)?;
    let descriptors = protox::compile([definition], ["proto"])?;
    let builder = tonic_prost_build::configure().build_server(false).build_transport(false);
    builder.out_dir(out).compile_fds(descriptors)?;
    Ok(())
}
