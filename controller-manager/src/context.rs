//! What every controller gets: clients under its own name, shared informers, events, settings.

use std::sync::Arc;

use client::Client;
use component::flags::FlagSet;
use controller::EventRecorder;
use informer::Factory;
use tokio_util::sync::CancellationToken;

use crate::credentials::Clients;

/// Shared by all controllers; clones are cheap.
#[derive(Clone)]
pub struct Context {
    pub clients: Clients,
    /// Informers, shared between controllers.
    pub factory: Factory,
    pub flags: Arc<FlagSet>,
    /// Ends all controllers.
    pub token: CancellationToken,
    pub events: EventRecorder,
    /// The service account of the controller being built.
    pub account: &'static str,
}

impl Context {
    /// A client that acts as this controller.
    pub fn client(&self) -> Client {
        self.clients.get(self.account)
    }

    /// Records events as this component.
    pub fn recorder(&self, component: &str) -> EventRecorder {
        self.events.for_component(component)
    }

    /// Workers, from a flag such as `concurrent-deployment-syncs`; at least one.
    pub fn workers(&self, flag: &str) -> usize {
        usize::try_from(self.flags.int(flag)).unwrap_or(1).max(1)
    }
}
