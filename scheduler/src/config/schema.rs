//! The fields of the configuration and their Go types, for what is said of values that have another.
//! Upstream: staging kube-scheduler/config/v1, component-base/config/v1alpha1, and parts of core/v1.

/// What a field takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Text,
    /// A text of a type of its own.
    Named(&'static str),
    Bool,
    Int32,
    Int64,
    Float32,
    /// A text such as "5s".
    Duration,
    /// Base64.
    Bytes,
    /// Texts by name.
    Texts,
    List(&'static Kind),
    Struct(&'static Struct),
    /// Looked at elsewhere.
    Any,
}

/// A Go struct.
#[derive(Debug)]
pub struct Struct {
    pub name: &'static str,
    pub fields: &'static [(&'static str, Kind)],
}

impl Kind {
    /// Its name in Go.
    pub fn go(self) -> String {
        match self {
            Kind::Text | Kind::Duration => "string".into(),
            Kind::Named(name) => format!("v1.{name}"),
            Kind::Bool => "bool".into(),
            Kind::Int32 => "int32".into(),
            Kind::Int64 => "int64".into(),
            Kind::Float32 => "float32".into(),
            Kind::Bytes => "[]uint8".into(),
            Kind::Texts => "map[string]string".into(),
            Kind::List(of) => format!("[]{}", of.go()),
            Kind::Struct(of) if of.name.ends_with("Configuration") && of.name != ROOT.name => {
                format!("v1alpha1.{}", of.name)
            }
            Kind::Struct(of) => format!("v1.{}", of.name),
            Kind::Any => String::new(),
        }
    }
}

use Kind::{Any, Bool, Bytes, Duration, Float32, Int32, Int64, Named, Text, Texts};

macro_rules! list {
    ($of:ident) => {
        Kind::List(&Kind::Struct(&$of))
    };
}

/// The whole.
pub static ROOT: Struct = Struct {
    name: "KubeSchedulerConfiguration",
    fields: &[
        ("apiVersion", Text),
        ("kind", Text),
        ("parallelism", Int32),
        ("leaderElection", Kind::Struct(&LEADER_ELECTION)),
        ("clientConnection", Kind::Struct(&CLIENT_CONNECTION)),
        ("enableProfiling", Bool),
        ("enableContentionProfiling", Bool),
        ("percentageOfNodesToScore", Int32),
        ("podInitialBackoffSeconds", Int64),
        ("podMaxBackoffSeconds", Int64),
        ("profiles", list!(PROFILE)),
        ("extenders", list!(EXTENDER)),
        ("delayCacheUntilActive", Bool),
    ],
};

static LEADER_ELECTION: Struct = Struct {
    name: "LeaderElectionConfiguration",
    fields: &[
        ("leaderElect", Bool),
        ("leaseDuration", Duration),
        ("renewDeadline", Duration),
        ("retryPeriod", Duration),
        ("resourceLock", Text),
        ("resourceName", Text),
        ("resourceNamespace", Text),
    ],
};

static CLIENT_CONNECTION: Struct = Struct {
    name: "ClientConnectionConfiguration",
    fields: &[
        ("kubeconfig", Text),
        ("acceptContentTypes", Text),
        ("contentType", Text),
        ("qps", Float32),
        ("burst", Int32),
    ],
};

static PROFILE: Struct = Struct {
    name: "KubeSchedulerProfile",
    fields: &[
        ("schedulerName", Text),
        ("percentageOfNodesToScore", Int32),
        ("plugins", Kind::Struct(&PLUGINS)),
        ("pluginConfig", list!(PLUGIN_CONFIG)),
    ],
};

const SET: Kind = Kind::Struct(&PLUGIN_SET);

static PLUGINS: Struct = Struct {
    name: "Plugins",
    fields: &[
        ("preEnqueue", SET),
        ("queueSort", SET),
        ("preFilter", SET),
        ("filter", SET),
        ("postFilter", SET),
        ("preScore", SET),
        ("score", SET),
        ("reserve", SET),
        ("permit", SET),
        ("preBind", SET),
        ("bind", SET),
        ("postBind", SET),
        ("multiPoint", SET),
        ("placementGenerate", SET),
        ("placementScore", SET),
        ("podGroupPostFilter", SET),
    ],
};

static PLUGIN_SET: Struct =
    Struct { name: "PluginSet", fields: &[("enabled", list!(PLUGIN)), ("disabled", list!(PLUGIN))] };

static PLUGIN: Struct = Struct { name: "Plugin", fields: &[("name", Text), ("weight", Int32)] };

static PLUGIN_CONFIG: Struct = Struct { name: "PluginConfig", fields: &[("name", Text), ("args", Any)] };

static EXTENDER: Struct = Struct {
    name: "Extender",
    fields: &[
        ("urlPrefix", Text),
        ("filterVerb", Text),
        ("preemptVerb", Text),
        ("prioritizeVerb", Text),
        ("weight", Int64),
        ("bindVerb", Text),
        ("enableHTTPS", Bool),
        ("tlsConfig", Kind::Struct(&EXTENDER_TLS)),
        ("httpTimeout", Duration),
        ("nodeCacheCapable", Bool),
        ("managedResources", list!(MANAGED_RESOURCE)),
        ("ignorable", Bool),
    ],
};

static MANAGED_RESOURCE: Struct =
    Struct { name: "ExtenderManagedResource", fields: &[("name", Text), ("ignoredByScheduler", Bool)] };

static EXTENDER_TLS: Struct = Struct {
    name: "ExtenderTLSConfig",
    fields: &[
        ("insecure", Bool),
        ("serverName", Text),
        ("certFile", Text),
        ("keyFile", Text),
        ("caFile", Text),
        ("certData", Bytes),
        ("keyData", Bytes),
        ("caData", Bytes),
    ],
};

/// Arguments, by plugin.
pub static ARGUMENTS: &[(&str, &Struct)] = &[
    ("DefaultPreemption", &PREEMPTION),
    ("DynamicResources", &DYNAMIC_RESOURCES),
    ("InterPodAffinity", &INTER_POD_AFFINITY),
    ("NodeAffinity", &NODE_AFFINITY_ARGS),
    ("NodeResourcesBalancedAllocation", &BALANCED),
    ("NodeResourcesFit", &FIT),
    ("PodTopologySpread", &SPREAD),
    ("VolumeBinding", &VOLUME_BINDING),
];

static PREEMPTION: Struct = Struct {
    name: "DefaultPreemptionArgs",
    fields: &[
        ("apiVersion", Text),
        ("kind", Text),
        ("minCandidateNodesPercentage", Int32),
        ("minCandidateNodesAbsolute", Int32),
    ],
};

static DYNAMIC_RESOURCES: Struct = Struct {
    name: "DynamicResourcesArgs",
    fields: &[
        ("apiVersion", Text),
        ("kind", Text),
        ("filterTimeout", Duration),
        ("bindingTimeout", Duration),
    ],
};

static INTER_POD_AFFINITY: Struct = Struct {
    name: "InterPodAffinityArgs",
    fields: &[
        ("apiVersion", Text),
        ("kind", Text),
        ("hardPodAffinityWeight", Int32),
        ("ignorePreferredTermsOfExistingPods", Bool),
    ],
};

static NODE_AFFINITY_ARGS: Struct = Struct {
    name: "NodeAffinityArgs",
    fields: &[("apiVersion", Text), ("kind", Text), ("addedAffinity", Kind::Struct(&NODE_AFFINITY))],
};

static NODE_AFFINITY: Struct = Struct {
    name: "NodeAffinity",
    fields: &[
        ("requiredDuringSchedulingIgnoredDuringExecution", Kind::Struct(&NODE_SELECTOR)),
        ("preferredDuringSchedulingIgnoredDuringExecution", list!(PREFERRED)),
    ],
};

static NODE_SELECTOR: Struct = Struct { name: "NodeSelector", fields: &[("nodeSelectorTerms", list!(TERM))] };

static PREFERRED: Struct = Struct {
    name: "PreferredSchedulingTerm",
    fields: &[("weight", Int32), ("preference", Kind::Struct(&TERM))],
};

static TERM: Struct = Struct {
    name: "NodeSelectorTerm",
    fields: &[("matchExpressions", list!(REQUIREMENT)), ("matchFields", list!(REQUIREMENT))],
};

static REQUIREMENT: Struct = Struct {
    name: "NodeSelectorRequirement",
    fields: &[("key", Text), ("operator", Named("NodeSelectorOperator")), ("values", Kind::List(&Text))],
};

static BALANCED: Struct = Struct {
    name: "NodeResourcesBalancedAllocationArgs",
    fields: &[("apiVersion", Text), ("kind", Text), ("resources", list!(RESOURCE))],
};

static RESOURCE: Struct = Struct { name: "ResourceSpec", fields: &[("name", Text), ("weight", Int64)] };

static FIT: Struct = Struct {
    name: "NodeResourcesFitArgs",
    fields: &[
        ("apiVersion", Text),
        ("kind", Text),
        ("ignoredResources", Kind::List(&Text)),
        ("ignoredResourceGroups", Kind::List(&Text)),
        ("scoringStrategy", Kind::Struct(&STRATEGY)),
    ],
};

static STRATEGY: Struct = Struct {
    name: "ScoringStrategy",
    fields: &[
        ("type", Named("ScoringStrategyType")),
        ("resources", list!(RESOURCE)),
        ("requestedToCapacityRatio", Kind::Struct(&RATIO)),
    ],
};

static RATIO: Struct = Struct { name: "RequestedToCapacityRatioParam", fields: &[("shape", list!(SHAPE))] };

static SHAPE: Struct =
    Struct { name: "UtilizationShapePoint", fields: &[("utilization", Int32), ("score", Int32)] };

static SPREAD: Struct = Struct {
    name: "PodTopologySpreadArgs",
    fields: &[
        ("apiVersion", Text),
        ("kind", Text),
        ("defaultConstraints", list!(CONSTRAINT)),
        ("defaultingType", Named("PodTopologySpreadConstraintsDefaulting")),
    ],
};

static CONSTRAINT: Struct = Struct {
    name: "TopologySpreadConstraint",
    fields: &[
        ("maxSkew", Int32),
        ("topologyKey", Text),
        ("whenUnsatisfiable", Named("UnsatisfiableConstraintAction")),
        ("labelSelector", Kind::Struct(&LABEL_SELECTOR)),
        ("minDomains", Int32),
        ("nodeAffinityPolicy", Named("NodeInclusionPolicy")),
        ("nodeTaintsPolicy", Named("NodeInclusionPolicy")),
        ("matchLabelKeys", Kind::List(&Text)),
    ],
};

static LABEL_SELECTOR: Struct = Struct {
    name: "LabelSelector",
    fields: &[("matchLabels", Texts), ("matchExpressions", list!(EXPRESSION))],
};

static EXPRESSION: Struct = Struct {
    name: "LabelSelectorRequirement",
    fields: &[("key", Text), ("operator", Named("LabelSelectorOperator")), ("values", Kind::List(&Text))],
};

static VOLUME_BINDING: Struct = Struct {
    name: "VolumeBindingArgs",
    fields: &[("apiVersion", Text), ("kind", Text), ("bindTimeoutSeconds", Int64), ("shape", list!(SHAPE))],
};
