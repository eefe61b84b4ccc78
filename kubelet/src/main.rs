//! `kubelet`. Start reading at `app.rs`.

use std::process::ExitCode;

mod app;
mod flags;
mod options;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    component::app::main::<app::Kubelet>()
}
