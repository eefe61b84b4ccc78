//! The interfaces between the kubelet and programs on its node, besides device plugins and the runtime: registration of
//! plugins, drivers of claimed devices and their health, the node's pods, and what containers were given. Messages, clients and servers of
//! both sides, generated from `proto/`; what is done with them is the kubelet's.

macro_rules! generated {
    ($(#[$doc:meta])* $name:ident, $file:literal) => {
        $(#[$doc])*
        #[allow(
            missing_docs,
            clippy::too_many_lines,
            clippy::allow_attributes_without_reason,
            reason = "generated from the interface definition, which not all lints find something in"
        )]
        pub mod $name {
            include!(concat!(env!("OUT_DIR"), "/", $file, ".rs"));
        }
    };
}

generated!(
    /// Plugins that register by a socket.
    registration,
    "registration/pluginregistration"
);

/// Drivers of claimed devices. Both versions have the messages of v1.
pub mod dra {
    generated!(
        /// Version v1.
        v1,
        "dra/k8s.io.kubelet.pkg.apis.dra.v1"
    );
    generated!(
        /// Version v1beta1.
        v1beta1,
        "dra/k8s.io.kubelet.pkg.apis.dra.v1beta1"
    );
}

/// How claimed devices are. Both versions have the messages of v1.
pub mod health {
    generated!(
        /// Version v1.
        v1,
        "health/v1"
    );
    generated!(
        /// Version v1alpha1.
        v1alpha1,
        "health/v1alpha1"
    );
}

/// The pods of the node.
pub mod pods {
    generated!(
        /// Version v1alpha1.
        v1alpha1,
        "pods/v1alpha1"
    );
}

/// What containers were given.
pub mod podresources {
    generated!(
        /// Version v1.
        v1,
        "podresources/v1"
    );
    generated!(
        /// Version v1alpha1.
        v1alpha1,
        "podresources/v1alpha1"
    );
}
