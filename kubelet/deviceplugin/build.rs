//! Compiles the definition of device plugins; no external compiler is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/deviceplugin.proto");
    let descriptors = protox::compile(["proto/deviceplugin.proto"], ["proto"])?;
    // Maps in order, so that what is kept of an answer is the same bytes every time.
    tonic_prost_build::configure().build_transport(false).btree_map(".").compile_fds(descriptors)?;
    Ok(())
}
