//! Which parts of allocation are switched on. Upstream: structured.Features, dynamicresources.go AllocatorFeatures;
//! those that no gate turns off any more (administrators' access, prioritized lists) are not here.

use component::features::{Gate, Gates};

/// One field for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Devices that must be made ready before pods are bound.
    pub binding: bool,
    /// Groups of devices that may use one set of counters together.
    pub compatibility_groups: bool,
    /// Devices that several claims share.
    pub consumable_capacity: bool,
    /// Attributes that requests compute from those of devices.
    pub derived_attributes: bool,
    /// Ranges of capacity in thousandths.
    pub fractional_capacity: bool,
    /// Attributes with several values.
    pub list_attributes: bool,
    /// Devices for which nodes have less to do.
    pub optional_node_operations: bool,
    /// Devices that use counters of their pool.
    pub partitionable: bool,
    pub taints: bool,
}

impl Features {
    /// Whether upstream's "experimental" allocator serves. Those before it know nothing of what it lets be switched on.
    pub fn newest(self) -> bool {
        self.compatibility_groups
            || self.derived_attributes
            || self.list_attributes
            || self.optional_node_operations
    }

    /// Whether upstream's "stable" one does, which knows nothing of what the others let be switched on.
    pub fn oldest(self) -> bool {
        !(self.binding || self.consumable_capacity || self.fractional_capacity || self.newest())
    }

    pub fn of(gates: &Gates) -> Self {
        let on = |gate| gates.enabled(gate);
        Self {
            binding: on(Gate::DRADeviceBindingConditions) && on(Gate::DRAResourceClaimDeviceStatus),
            compatibility_groups: on(Gate::DRADeviceCompatibilityGroups),
            consumable_capacity: on(Gate::DRAConsumableCapacity),
            derived_attributes: on(Gate::DRADerivedAttributes),
            fractional_capacity: on(Gate::DRAFractionalCapacityRange),
            list_attributes: on(Gate::DRAListTypeAttributes),
            optional_node_operations: on(Gate::DRAOptionalNodeOperations),
            partitionable: on(Gate::DRAPartitionableDevices),
            taints: on(Gate::DRADeviceTaints),
        }
    }
}
