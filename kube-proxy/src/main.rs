//! `kube-proxy`. Start reading at `app.rs`.

use std::process::ExitCode;

mod app;
mod flags;
mod options;

fn main() -> ExitCode {
    component::app::main::<app::KubeProxy>()
}
