//! From claims to a user: claims by name with a prefix, or expressions; and the rules that both must keep.
//! Upstream: `plugin/pkg/authenticator/token/oidc/oidc.go` `AuthenticateToken`, `pkg/authentication/cel`.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use auth::UserInfo;
use cel::{Activation, Budget, DeclType, Env, Program, Type, Val, Version};
use machinery::Value;
use serde_json::{Value as Json, json};

const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// An expression with its text.
#[derive(Debug)]
pub(crate) struct Expression {
    text: String,
    pub(crate) program: Program,
}

/// Where a value comes from.
#[derive(Debug, Default)]
pub(crate) enum Origin {
    /// From nowhere.
    #[default]
    Nothing,
    /// A claim, and what is put before it.
    Claim(String, String),
    Expression(Expression),
}

/// A rule, and what is said where it is broken.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) expression: Expression,
    pub(crate) message: String,
}

/// How an issuer's claims become a user.
#[derive(Debug, Default)]
pub(crate) struct Mapping {
    pub(crate) username: Origin,
    pub(crate) groups: Origin,
    pub(crate) uid: Origin,
    pub(crate) extra: Vec<(String, Expression)>,
    /// Claims that must be there with these values.
    pub(crate) required: BTreeMap<String, String>,
    pub(crate) claim_rules: Vec<Rule>,
    pub(crate) user_rules: Vec<Rule>,
}

/// What expressions are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    Claims,
    User,
}

fn environment(about: About) -> &'static Env {
    static CLAIMS: OnceLock<Env> = OnceLock::new();
    static USER: OnceLock<Env> = OnceLock::new();
    let text = || DeclType::simple(Type::String, -1);
    match about {
        About::Claims => CLAIMS.get_or_init(|| {
            let claims = DeclType::map(text(), DeclType::simple(Type::Any, -1), -1);
            Env::builder(Version::Stored).declare("claims", &claims).build()
        }),
        About::User => USER.get_or_init(|| {
            let texts = || DeclType::list(text(), -1);
            let fields = [
                ("username", text()),
                ("uid", text()),
                ("groups", texts()),
                ("extra", DeclType::map(text(), texts(), -1)),
            ];
            let fields: HashMap<_, _> = fields.into_iter().map(|(name, t)| (name.into(), t)).collect();
            let user = DeclType::object("kubernetes.UserInfo", fields);
            Env::builder(Version::Stored).declare("user", &user).build()
        }),
    }
}

impl Expression {
    /// Compiles; `condition` says that it must come to a boolean.
    ///
    /// # Errors
    /// What a field error says of it.
    pub(crate) fn compile(text: &str, about: About, condition: bool) -> Result<Self, String> {
        let program = environment(about).compile(text, None).map_err(|e| e.to_string())?;
        if condition && *program.output_type() != Type::Bool {
            return Err("must evaluate to bool".to_owned());
        }
        Ok(Self { text: text.to_owned(), program })
    }

    fn evaluate<'a>(&'a self, activation: &Activation<'a>) -> Result<Val<'a>, String> {
        let value = self.program.eval(activation, &Budget::cost(Budget::PER_CALL));
        value.map_err(|why| format!("expression '{}' resulted in error: {why}", self.text))
    }
}

/// Claims as expressions see them: all numbers are floating, and names that no identifier can spell are there a second
/// time, escaped. Upstream: `newClaimsValue`, `unescapeMapper`.
fn seen(json: &Json) -> Value {
    match json {
        Json::Number(n) => Value::Float(n.as_f64().unwrap_or_default()),
        Json::Array(items) => items.iter().map(seen).collect::<Vec<_>>().into(),
        Json::Object(fields) => {
            let escaped = |name: &String| cel::escape(name).filter(|e| e != name && !fields.contains_key(e));
            let again = fields.iter().filter_map(|(name, v)| Some((escaped(name)?, seen(v))));
            Value::Map(fields.iter().map(|(name, v)| (name.clone(), seen(v))).chain(again).collect())
        }
        other => Value::from(other.clone()),
    }
}

/// Text or texts; empty ones count for nothing. Upstream: `convertCELValueToStringList`.
fn texts(value: &Val<'_>) -> Result<Vec<String>, String> {
    let wrong = || "expression must return a string or a list of strings".to_owned();
    let mut all = Vec::new();
    match value {
        Val::Null => {}
        Val::Str(text) => all.push(text.to_string()),
        Val::List(items) => {
            for item in items.iter() {
                let item = item.map_err(|_| wrong())?;
                all.push(item.as_str().ok_or_else(wrong)?.to_owned());
            }
        }
        _ => return Err(wrong()),
    }
    all.retain(|text| !text.is_empty());
    Ok(all)
}

fn claim<'a>(claims: &'a Json, name: &str) -> Result<&'a Json, String> {
    claims.get(name).ok_or_else(|| "claim not present".to_owned())
}

fn claim_text<'a>(claims: &'a Json, name: &str) -> Result<&'a str, String> {
    match claim(claims, name)? {
        Json::String(text) => Ok(text),
        // Go's decoder leaves the text as it was.
        Json::Null => Ok(""),
        other => Err(format!("json: cannot unmarshal {} into Go value of type string", go_kind(other))),
    }
}

fn go_kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "bool",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}

impl Mapping {
    /// Whether any expression looks at the claims.
    fn looks_at_claims(&self) -> bool {
        let by_expression = |o: &Origin| matches!(o, Origin::Expression(_));
        [&self.username, &self.groups, &self.uid].into_iter().any(by_expression)
            || !self.extra.is_empty()
            || !self.claim_rules.is_empty()
    }

    /// The user of verified claims.
    ///
    /// # Errors
    /// Claims that are missing or of another kind, and rules that are broken.
    pub(crate) fn user(&self, claims: &Json) -> Result<UserInfo, String> {
        let tree = if self.looks_at_claims() { seen(claims) } else { Value::Null };
        let activation = Activation::new().bind_tree("claims", &tree);
        let user = UserInfo {
            name: self.name(claims, &activation)?,
            groups: self.group_names(claims, &activation)?,
            uid: self.user_uid(claims, &activation)?,
            extra: self.facts(claims, &activation)?,
        };
        self.check_required(claims)?;
        check_rules(&self.claim_rules, &activation)
            .map_err(|why| format!("oidc: error evaluating claim validation expression: {why}"))?;
        if !self.user_rules.is_empty() {
            let shown =
                json!({"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra});
            let shown = seen(&shown);
            check_rules(&self.user_rules, &Activation::new().bind_tree("user", &shown))
                .map_err(|why| format!("oidc: error evaluating user info validation rule: {why}"))?;
        }
        Ok(user)
    }

    fn name<'a>(&'a self, claims: &Json, activation: &Activation<'a>) -> Result<String, String> {
        match &self.username {
            Origin::Expression(expression) => {
                let failed = |why: String| format!("oidc: error evaluating username claim expression: {why}");
                let value = expression.evaluate(activation).map_err(failed)?;
                let name = value
                    .as_str()
                    .ok_or_else(|| failed("username claim expression must return a string".to_owned()))?;
                if name.is_empty() {
                    return Err("oidc: empty username via CEL expression is not allowed".to_owned());
                }
                Ok(name.to_owned())
            }
            Origin::Claim(name, prefix) => {
                let text = claim_text(claims, name)
                    .map_err(|why| format!("oidc: parse username claims {name:?}: {why}"))?;
                if name == "email" {
                    check_email(claims)?;
                }
                Ok(format!("{prefix}{text}"))
            }
            Origin::Nothing => Err("oidc: no username claim".to_owned()),
        }
    }

    fn group_names<'a>(&'a self, claims: &Json, activation: &Activation<'a>) -> Result<Vec<String>, String> {
        match &self.groups {
            Origin::Nothing => Ok(Vec::new()),
            Origin::Expression(expression) => expression
                .evaluate(activation)
                .and_then(|value| texts(&value))
                .map_err(|why| format!("oidc: error evaluating group claim expression: {why}")),
            Origin::Claim(name, prefix) => {
                let Some(value) = claims.get(name) else { return absent_groups(claims, name) };
                let wrong =
                    || format!("oidc: parse groups claim {name:?}: not a string or a list of strings");
                let all: Vec<&str> = match value {
                    Json::Null => Vec::new(),
                    Json::String(one) => vec![one],
                    Json::Array(all) => {
                        all.iter().map(Json::as_str).collect::<Option<_>>().ok_or_else(wrong)?
                    }
                    _ => return Err(wrong()),
                };
                Ok(all.into_iter().map(|group| format!("{prefix}{group}")).collect())
            }
        }
    }

    fn user_uid<'a>(&'a self, claims: &Json, activation: &Activation<'a>) -> Result<String, String> {
        match &self.uid {
            Origin::Nothing => Ok(String::new()),
            Origin::Claim(name, _) => claim_text(claims, name)
                .map(str::to_owned)
                .map_err(|why| format!("oidc: parse uid claim {name:?}: {why}")),
            Origin::Expression(expression) => {
                let failed = |why: String| format!("oidc: error evaluating uid claim expression: {why}");
                let value = expression.evaluate(activation).map_err(failed)?;
                let text = value.as_str().map(str::to_owned);
                text.ok_or_else(|| failed("uid claim expression must return a string".to_owned()))
            }
        }
    }

    fn facts<'a>(
        &'a self,
        claims: &Json,
        activation: &Activation<'a>,
    ) -> Result<BTreeMap<String, Vec<String>>, String> {
        let mut facts = BTreeMap::new();
        if let Some(id) = claims.get("jti").and_then(Json::as_str).filter(|id| !id.is_empty()) {
            facts.insert(CREDENTIAL_ID.to_owned(), vec![format!("JTI={id}")]);
        }
        for (key, expression) in &self.extra {
            let values = texts(&expression.evaluate(activation)?).map_err(|why| {
                format!("oidc: error evaluating extra claim expression: {}: {why}", expression.text)
            })?;
            if !values.is_empty() {
                facts.insert(key.clone(), values);
            }
        }
        Ok(facts)
    }

    fn check_required(&self, claims: &Json) -> Result<(), String> {
        for (name, wanted) in &self.required {
            if claims.get(name).is_none() {
                return Err(format!("oidc: required claim {name} not present in ID token"));
            }
            let value = claim_text(claims, name).map_err(|why| format!("oidc: parse claim {name}: {why}"))?;
            if value != wanted {
                return Err(format!(
                    "oidc: required claim {name} value does not match. Got = {value}, want = {wanted}"
                ));
            }
        }
        Ok(())
    }
}

/// Groups that are kept elsewhere are not fetched, and a user without them is another user.
fn absent_groups(claims: &Json, name: &str) -> Result<Vec<String>, String> {
    if claims.get("_claim_names").and_then(|names| names.get(name)).is_some() {
        return Err("oidc: could not expand distributed claims: they are not supported".to_owned());
    }
    Ok(Vec::new())
}

fn check_email(claims: &Json) -> Result<(), String> {
    match claims.get("email_verified") {
        None | Some(Json::Bool(true)) => Ok(()),
        Some(Json::Bool(false) | Json::Null) => Err("oidc: email not verified".to_owned()),
        Some(other) => Err(format!(
            "oidc: parse 'email_verified' claim: json: cannot unmarshal {} into Go value of type bool",
            go_kind(other)
        )),
    }
}

fn check_rules<'a>(rules: &'a [Rule], activation: &Activation<'a>) -> Result<(), String> {
    let mut results = Vec::with_capacity(rules.len());
    for rule in rules {
        results.push(rule.expression.evaluate(activation)?.as_bool());
    }
    for (rule, result) in rules.iter().zip(results) {
        match result {
            Some(true) => {}
            Some(false) => {
                let text = &rule.expression.text;
                return Err(format!("validation expression '{text}' failed: {}", rule.message));
            }
            None => return Err("validation expression must return a boolean".to_owned()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expression(text: &str) -> Expression {
        Expression::compile(text, About::Claims, false).unwrap()
    }

    fn claims() -> Json {
        json!({"sub": "jane", "email": "j@x", "jti": "1", "n": 3, "groups": ["a", "", "b"], "role": "r",
            "kubernetes.io": {"uid": "u"}, "roles": {"x": true}})
    }

    #[test]
    fn claims_by_name() {
        let claim = |name: &str, prefix: &str| Origin::Claim(name.into(), prefix.into());
        let mut mapping = Mapping {
            username: claim("sub", "p:"),
            groups: claim("groups", "g:"),
            uid: claim("role", ""),
            ..Mapping::default()
        };
        let user = mapping.user(&claims()).unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("p:jane", "r"));
        assert_eq!(user.groups, ["g:a", "g:", "g:b"]);
        assert_eq!(user.extra, [(CREDENTIAL_ID.to_owned(), vec!["JTI=1".to_owned()])].into());
        mapping.groups = claim("role", "");
        assert_eq!(mapping.user(&claims()).unwrap().groups, ["r"]);
        mapping.required = [("role".to_owned(), "other".to_owned())].into();
        assert!(mapping.user(&claims()).unwrap_err().contains("Got = r, want = other"));
        mapping.required.clear();
        mapping.username = claim("email", "");
        assert_eq!(mapping.user(&claims()).unwrap().name, "j@x");
        let mut unverified = claims();
        unverified["email_verified"] = false.into();
        assert_eq!(mapping.user(&unverified).unwrap_err(), "oidc: email not verified");
        mapping.username = claim("n", "");
        assert!(mapping.user(&claims()).unwrap_err().contains("cannot unmarshal number"));
    }

    #[test]
    fn expressions() {
        let mapping = Mapping {
            username: Origin::Expression(expression("claims.sub + ':' + string(claims.n)")),
            groups: Origin::Expression(expression("claims.roles.x ? claims.groups : []")),
            uid: Origin::Expression(expression("claims.kubernetes__dot__io.uid")),
            extra: vec![("x/y".into(), expression("claims.?missing.orValue('none')"))],
            ..Mapping::default()
        };
        let user = mapping.user(&claims()).unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("jane:3", "u"));
        assert_eq!(user.groups, ["a", "b"]);
        assert_eq!(user.extra["x/y"], ["none"]);
        let wrong = Mapping { username: Origin::Expression(expression("claims.n")), ..Mapping::default() };
        assert!(wrong.user(&claims()).unwrap_err().ends_with("must return a string"));
    }

    #[test]
    fn rules() {
        let rule = |text: &str, about: About| Rule {
            expression: Expression::compile(text, about, true).unwrap(),
            message: "no".into(),
        };
        let mut mapping = Mapping {
            username: Origin::Claim("sub".into(), String::new()),
            claim_rules: vec![rule("claims.n < 4.0", About::Claims)],
            user_rules: vec![rule("!user.username.startsWith('system:')", About::User)],
            ..Mapping::default()
        };
        assert!(mapping.user(&claims()).is_ok());
        let mut system = claims();
        system["sub"] = "system:x".into();
        let why = "oidc: error evaluating user info validation rule: validation expression \
                   '!user.username.startsWith('system:')' failed: no";
        assert_eq!(mapping.user(&system).unwrap_err(), why);
        mapping.claim_rules = vec![rule("claims.n > 4.0", About::Claims)];
        assert!(mapping.user(&claims()).is_err());
        assert_eq!(
            Expression::compile("user.username", About::User, true).unwrap_err(),
            "must evaluate to bool"
        );
    }
}
