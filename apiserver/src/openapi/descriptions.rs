//! Descriptions of the fields that every object has, in words of our own: what `kubectl explain` shows of metadata.

/// What a field of ObjectMeta is for.
pub(super) fn object_meta(field: &str) -> Option<&'static str> {
    Some(match field {
        "annotations" => {
            "Annotations are texts that tools keep with the object. Nothing is selected by them."
        }
        "creationTimestamp" => {
            "CreationTimestamp is a timestamp of the server's clock when the object was created. Set by the server, in RFC 3339 form and UTC."
        }
        "deletionGracePeriodSeconds" => {
            "DeletionGracePeriodSeconds is how many seconds the object had to end itself when its deletion began. It can only become less."
        }
        "deletionTimestamp" => {
            "DeletionTimestamp is when the object goes or went on its way out. Set by the server when a deletion is asked for; it stays until the finalizers are gone."
        }
        "finalizers" => "Finalizers are names of those who must act before the object can be removed.",
        "generateName" => "GenerateName is a prefix from which the server makes a name when none was given.",
        "generation" => "Generation counts the changes of the desired state. Set by the server.",
        "labels" => "Labels are key and value pairs by which objects are selected.",
        "managedFields" => "ManagedFields says who manages which fields, for server-side apply.",
        "name" => "Name is the object's name, the only one of its kind in its namespace. It cannot change.",
        "namespace" => {
            "Namespace is where the object lives, if its kind lives in namespaces. It cannot change."
        }
        "ownerReferences" => {
            "OwnerReferences are the objects this one depends on; it goes when all of them are gone."
        }
        "resourceVersion" => {
            "ResourceVersion is the version of the stored object. Clients compare it for equality only."
        }
        "selfLink" => "SelfLink is not set any more.",
        "uid" => {
            "UID tells the object from all others, of the same name or not, that ever were. Set by the server."
        }
        _ => return None,
    })
}
