//! Values as upstream prints those of its internal types, whose fields have no JSON names: every field by its name in Go, in
//! the order of the declaration, unset ones too (`field.Error.ErrorBody` marshals what was refused).
//!
//! Only the types of which an error shows a whole are here.

use machinery::Value;

/// A field of an internal type.
pub struct Field {
    go: &'static str,
    /// Its name in the served versions.
    json: &'static str,
    kind: Kind,
}

enum Kind {
    Text,
    Number,
    /// A pointer to what prints as it is served, a map, or a list of what has JSON names.
    Pointer,
    Bytes,
    Struct(&'static [Field]),
    List(&'static [Field]),
}

const fn field(go: &'static str, json: &'static str, kind: Kind) -> Field {
    Field { go, json, kind }
}

/// `certificates.PodCertificateRequestSpec`.
pub const POD_CERTIFICATE_REQUEST_SPEC: &[Field] = &[
    field("SignerName", "signerName", Kind::Text),
    field("PodName", "podName", Kind::Text),
    field("PodUID", "podUID", Kind::Text),
    field("ServiceAccountName", "serviceAccountName", Kind::Text),
    field("ServiceAccountUID", "serviceAccountUID", Kind::Text),
    field("NodeName", "nodeName", Kind::Text),
    field("NodeUID", "nodeUID", Kind::Text),
    field("MaxExpirationSeconds", "maxExpirationSeconds", Kind::Pointer),
    field("PKIXPublicKey", "pkixPublicKey", Kind::Bytes),
    field("ProofOfPossession", "proofOfPossession", Kind::Bytes),
    field("StubPKCS10Request", "stubPKCS10Request", Kind::Bytes),
    field("UnverifiedUserAnnotations", "unverifiedUserAnnotations", Kind::Pointer),
];

/// `resource.ResourcePoolStatusRequestStatus`.
pub const POOL_STATUS_REQUEST_STATUS: &[Field] = &[
    field("PoolCount", "poolCount", Kind::Pointer),
    field("Pools", "pools", Kind::List(POOL)),
    field("Conditions", "conditions", Kind::Pointer),
];

const POOL: &[Field] = &[
    field("Driver", "driver", Kind::Text),
    field("PoolName", "poolName", Kind::Text),
    field("Generation", "generation", Kind::Number),
    field("ResourceSliceCount", "resourceSliceCount", Kind::Pointer),
    field("TotalDevices", "totalDevices", Kind::Pointer),
    field("AllocatedDevices", "allocatedDevices", Kind::Pointer),
    field("AvailableDevices", "availableDevices", Kind::Pointer),
    field("UnavailableDevices", "unavailableDevices", Kind::Pointer),
    field("NodeName", "nodeName", Kind::Pointer),
    field("ValidationError", "validationError", Kind::Pointer),
    field("PartitionSummary", "partitionSummary", Kind::List(PARTITION_TYPE)),
    field("ShareableSummary", "shareableSummary", Kind::Struct(SHAREABLE_SUMMARY)),
];

const PARTITION_TYPE: &[Field] = &[
    field("Attribute", "attribute", Kind::Text),
    field("Type", "type", Kind::Text),
    field("Total", "total", Kind::Pointer),
    field("Allocatable", "allocatable", Kind::Pointer),
];

const SHAREABLE_SUMMARY: &[Field] = &[
    field("FullyAvailableDevices", "fullyAvailableDevices", Kind::Pointer),
    field("PartiallyAvailableDevices", "partiallyAvailableDevices", Kind::Pointer),
    field("Capacity", "capacity", Kind::List(SHAREABLE_CAPACITY)),
];

const SHAREABLE_CAPACITY: &[Field] = &[
    field("Name", "name", Kind::Text),
    field("Total", "total", Kind::Pointer),
    field("Consumed", "consumed", Kind::Pointer),
    field("Available", "available", Kind::Pointer),
];

/// `value`, a struct of the type with these fields, as JSON.
pub fn print(value: &Value, fields: &[Field]) -> String {
    let fields = fields.iter().map(|field| {
        let given = value.get(field.json).filter(|given| !given.is_null());
        format!("\"{}\":{}", field.go, field.print(given))
    });
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

impl Field {
    fn print(&self, given: Option<&Value>) -> String {
        let given = given.filter(|given| !matches!(self.kind, Kind::Bytes) || given.as_str() != Some(""));
        match (&self.kind, given) {
            (Kind::Text, None) => "\"\"".to_owned(),
            (Kind::Number, None) => "0".to_owned(),
            (_, None) => "null".to_owned(),
            (Kind::Struct(fields), Some(given)) => print(given, fields),
            (Kind::List(fields), Some(Value::List(items))) => {
                let items: Vec<_> = items.iter().map(|item| print(item, fields)).collect();
                format!("[{}]", items.join(","))
            }
            (_, Some(given)) => given.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As upstream's server of v1.37.2 printed them.
    #[test]
    fn prints_every_field_by_its_name_in_go() {
        let spec: Value = serde_json::from_str(
            r#"{"signerName":"example.com/signer","podName":"pod-1","podUID":"pod-uid-1","serviceAccountName":"sa-1",
                "serviceAccountUID":"sa-uid-1","nodeName":"node-1","nodeUID":"node-uid-1","maxExpirationSeconds":86400,
                "stubPKCS10Request":""}"#,
        )
        .unwrap();
        assert_eq!(
            print(&spec, POD_CERTIFICATE_REQUEST_SPEC),
            r#"{"SignerName":"example.com/signer","PodName":"pod-1","PodUID":"pod-uid-1","ServiceAccountName":"sa-1","ServiceAccountUID":"sa-uid-1","NodeName":"node-1","NodeUID":"node-uid-1","MaxExpirationSeconds":86400,"PKIXPublicKey":null,"ProofOfPossession":null,"StubPKCS10Request":null,"UnverifiedUserAnnotations":null}"#
        );
        let status: Value = serde_json::from_str(r#"{"poolCount":1}"#).unwrap();
        let printed = print(&status, POOL_STATUS_REQUEST_STATUS);
        assert_eq!(printed, r#"{"PoolCount":1,"Pools":null,"Conditions":null}"#);
    }
}
