//! `kubelet`. Start reading at `app.rs`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    api::only_a_client();
    component::app::main::<kubelet::app::Daemon>()
}
