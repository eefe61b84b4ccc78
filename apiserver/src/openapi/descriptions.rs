//! Descriptions in words of our own: of the fields that every object has, which `kubectl explain` shows, of the items of
//! lists, and of query parameters.

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

/// What a query parameter or a part of a path is for.
pub(super) fn parameter(name: &str) -> Option<&'static str> {
    Some(match name {
        "allowWatchBookmarks" => {
            "Asks for bookmarks, which tell how far a watch has come. Without a watch it means nothing."
        }
        "continue" => "The token of the page before, from its metadata. It expires after some minutes.",
        "dryRun" => "With All, everything is done but storing.",
        "fieldManager" => "Who makes the change, for server-side apply.",
        "fieldSelector" => "Restricts the list of returned objects to those whose fields match.",
        "fieldValidation" => "What becomes of unknown and repeated fields: Ignore, Warn or Strict.",
        "force" => "Takes fields over from other managers. Only with server-side apply.",
        "gracePeriodSeconds" => "How long the object has to end itself, in seconds; 0 is at once.",
        "ignoreStoreReadErrorWithClusterBreakingPotential" => {
            "Removes an object that can no longer be read from the store, without regard to finalizers and dependents."
        }
        "labelSelector" => "Restricts the list of returned objects to those whose labels match.",
        "limit" => "The most objects of one page.",
        "name" => "Name of the object.",
        "namespace" => "Namespace of the object.",
        "orphanDependents" => "Deprecated: see propagationPolicy.",
        "pretty" => "With true, the answer is indented.",
        "propagationPolicy" => "What becomes of dependents: Orphan, Background or Foreground.",
        "resourceVersion" => "The version that a read starts from; resourceVersionMatch says how.",
        "resourceVersionMatch" => "How resourceVersion is meant: Exact or NotOlderThan.",
        "sendInitialEvents" => {
            "Begins a watch with the objects that are there, and ends them with a bookmark."
        }
        "timeoutSeconds" => "How long a list or a watch may take.",
        "watch" => {
            "Watch for changes to the described resources, from resourceVersion on, as a stream of events."
        }
        _ => return None,
    })
}

/// What the items of a kind's list are.
pub(super) fn items(kind: &str) -> String {
    let one = kind.to_lowercase();
    let many = match one.as_bytes() {
        [.., b't', b's'] => one,
        [.., b's'] => format!("{one}es"),
        [start @ .., b'y'] if start.last().is_some_and(|c| !b"aeiou".contains(c)) => {
            format!("{}ies", &one[..one.len() - 1])
        }
        _ => format!("{one}s"),
    };
    format!("List of {many}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_many() {
        for (kind, want) in [
            ("Service", "List of services."),
            ("Ingress", "List of ingresses."),
            ("NetworkPolicy", "List of networkpolicies."),
            ("Endpoints", "List of endpoints."),
            ("PodGateway", "List of podgateways."),
        ] {
            assert_eq!(items(kind), want);
        }
    }
}
