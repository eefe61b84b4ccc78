//! Compiles the definitions; no external compiler is needed.

use std::path::Path;

/// Each with a folder of its own, as two of them have packages of the same name.
const ALL: [(&str, &[&str]); 5] = [
    ("registration", &["registration.proto"]),
    ("dra", &["dra.proto", "dra_v1beta1.proto"]),
    ("health", &["health.proto", "health_v1alpha1.proto"]),
    ("pods", &["pods.proto"]),
    ("podresources", &["podresources.proto", "podresources_v1alpha1.proto"]),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = std::env::var("OUT_DIR")?;
    for (name, files) in ALL {
        let folder = Path::new(&out).join(name);
        std::fs::create_dir_all(&folder)?;
        let descriptors = protox::compile(files.iter().map(|file| Path::new("proto").join(file)), ["proto"])?;
        tonic_prost_build::configure()
            .build_transport(false)
            .btree_map(".")
            .out_dir(folder)
            .compile_fds(descriptors)?;
    }
    Ok(())
}
