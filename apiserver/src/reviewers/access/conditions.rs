//! Conditions that say which requests a webhook is asked about. Upstream: `pkg/authorization/cel`.

use std::collections::HashMap;
use std::sync::OnceLock;

use cel::{Activation, Budget, DeclType, Env, Program, Type, Val, Version};
use machinery::Value;

/// Compiled conditions; all must hold.
#[derive(Debug, Default)]
pub(crate) struct Conditions(Vec<(String, Program)>);

fn object(name: &str, fields: &[(&str, &DeclType)]) -> DeclType {
    let fields: HashMap<_, _> = fields.iter().map(|(name, t)| ((*name).into(), (*t).clone())).collect();
    DeclType::object(name, fields)
}

/// The type of `request` (`buildRequestType`).
fn request_type() -> DeclType {
    let text = &DeclType::simple(Type::String, -1);
    let texts = &DeclType::list(text.clone(), -1);
    let requirement =
        object("kubernetes.SelectorRequirement", &[("key", text), ("operator", text), ("values", texts)]);
    let requirements = &DeclType::list(requirement, -1);
    let selector = |name: &str| object(name, &[("rawSelector", text), ("requirements", requirements)]);
    let resource = object(
        "kubernetes.ResourceAttributes",
        &[
            ("namespace", text),
            ("verb", text),
            ("group", text),
            ("version", text),
            ("resource", text),
            ("subresource", text),
            ("name", text),
            ("fieldSelector", &selector("kubernetes.FieldSelectorAttributes")),
            ("labelSelector", &selector("kubernetes.LabelSelectorAttributes")),
        ],
    );
    let path = object("kubernetes.NonResourceAttributes", &[("path", text), ("verb", text)]);
    object(
        "kubernetes.SubjectAccessReviewSpec",
        &[
            ("resourceAttributes", &resource),
            ("nonResourceAttributes", &path),
            ("user", text),
            ("groups", texts),
            ("extra", &DeclType::map(text.clone(), texts.clone(), -1)),
            ("uid", text),
        ],
    )
}

fn environment() -> &'static Env {
    static ENV: OnceLock<Env> = OnceLock::new();
    ENV.get_or_init(|| Env::builder(Version::Stored).declare("request", &request_type()).build())
}

/// Compiles a condition.
///
/// # Errors
/// What a field error says of it.
pub(crate) fn compile(expression: &str) -> Result<Program, String> {
    let program = environment().compile(expression, None).map_err(|e| e.to_string())?;
    match program.output_type() {
        Type::Bool => Ok(program),
        other => Err(format!("must evaluate to bool but got {other}")),
    }
}

impl Conditions {
    pub(crate) fn new(compiled: Vec<(String, Program)>) -> Self {
        Self(compiled)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold for a request. One that does not decides, whatever became of those before it.
    ///
    /// # Errors
    /// Those of conditions, where none fails to hold.
    pub(crate) fn hold(&self, request: &Value) -> Result<bool, String> {
        let activation = Activation::new().bind_tree("request", request);
        let mut errors = Vec::new();
        for (text, program) in &self.0 {
            match program.eval(&activation, &Budget::cost(Budget::PER_CALL)) {
                Ok(Val::Bool(true)) => {}
                Ok(_) => return Ok(false),
                Err(why) => {
                    errors.push(format!("cel evaluation error: expression '{text}' resulted in error: {why}"))
                }
            }
        }
        match errors.len() {
            0 => Ok(true),
            1 => Err(errors.remove(0)),
            _ => Err(format!("[{}]", errors.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hold(texts: &[&str]) -> Result<bool, String> {
        let compiled = texts.iter().map(|t| ((*t).to_owned(), compile(t).unwrap())).collect();
        let request = json!({"user": "u", "groups": ["g"], "uid": "", "extra": {},
            "resourceAttributes": {"namespace": "kube-system", "verb": "get", "resource": "pods"}});
        Conditions::new(compiled).hold(&Value::from(request))
    }

    #[test]
    fn decide() {
        assert_eq!(hold(&["has(request.resourceAttributes)", "'g' in request.groups"]), Ok(true));
        assert_eq!(hold(&["request.resourceAttributes.namespace != 'kube-system'"]), Ok(false));
        let broken = "request.nonResourceAttributes.path == '/x'";
        let why = format!(
            "cel evaluation error: expression '{broken}' resulted in error: no such key: nonResourceAttributes"
        );
        assert_eq!(hold(&[broken]), Err(why));
        assert_eq!(hold(&[broken, "false"]), Ok(false));
    }

    #[test]
    fn refusals() {
        assert_eq!(compile("request.user").unwrap_err(), "must evaluate to bool but got string");
        assert!(
            compile("request.nothing").unwrap_err().starts_with("compilation failed: ERROR: <input>:1:8:")
        );
    }
}
