//! Removes rules that this run does not use: of other modes at start, of all with `--cleanup`.
//! Upstream: server_linux.go platformCleanup.

use tracing::{error, info};

use crate::iptables::command::Iptables;
use crate::model::Family;
use crate::nftables::command::Nft;
use crate::program::{Error, Result};
use crate::{iptables, ipvs, turn};

/// Whose rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leftovers {
    All,
    /// And ipvs, which uses chains of iptables.
    Iptables,
    Nftables,
}

impl Leftovers {
    /// Those that a mode does not use.
    pub fn of_other_modes(mode: &str) -> Self {
        if mode == "nftables" { Self::Iptables } else { Self::Nftables }
    }
}

/// Removes them, of both families.
///
/// # Errors
/// Something is left; each problem has been said.
pub async fn remove(leftovers: Leftovers) -> Result<()> {
    let _turn = turn::take().await;
    let mut failed = false;
    if leftovers != Leftovers::Nftables {
        failed |= said(Family::V4, ipvs::cleanup::servers().await);
    }
    for family in [Family::V4, Family::V6] {
        if leftovers != Leftovers::Nftables {
            failed |= said(family, remove_iptables(Iptables { family }).await);
            failed |= said(family, ipvs::cleanup::sets(family).await);
        }
        if leftovers != Leftovers::Iptables {
            failed |= said(family, Nft { family }.remove().await);
        }
    }
    if failed {
        Err(Error::Unusable("encountered an error while tearing down rules".to_string()))
    } else {
        Ok(())
    }
}

fn said(family: Family, result: Result<()>) -> bool {
    if let Err(error) = &result {
        error!(family = family.as_str(), %error, "Removing rules that are not used failed");
    }
    result.is_err()
}

async fn remove_iptables(iptables: Iptables) -> Result<()> {
    if let Err(error) = iptables.present().await {
        info!(family = iptables.family.as_str(), %error, "Nothing to clean up");
        return Ok(());
    }
    let load = iptables::cleanup::load(&iptables.saved().await?);
    if load.is_empty() { Ok(()) } else { iptables.restore(&load).await }
}
