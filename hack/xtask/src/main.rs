//! Tasks of the repository that are more than a line of shell.

mod fuzz_seeds;
mod structure;

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["fuzz-seeds", directory] => {
            fuzz_seeds::write(directory.as_ref()).context("writing what fuzzing starts from")
        }
        ["structure"] => structure::check(),
        _ => bail!("xtask fuzz-seeds DIR | structure"),
    }
}
