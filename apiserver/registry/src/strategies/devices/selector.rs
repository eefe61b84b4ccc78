//! Expressions that say which devices are meant, as far as can be told without devices: whether they compile, and what
//! they may cost. Upstream: `dynamic-resource-allocation/cel/compile.go`.

use std::sync::LazyLock;

use ::api::validation::resource::Verdict;
use cel::{DeclSizes, DeclType, Env, Library, Type, Version};

/// `CELSelectorExpressionMaxCost`.
const MOST_COST: u64 = 1_000_000;

struct Devices {
    env: Env,
    sizes: DeclSizes,
}

static DEVICES: LazyLock<Devices> = LazyLock::new(|| {
    let text = || DeclType::simple(Type::String, 64);
    let by_name = |value: DeclType| DeclType::map(text(), DeclType::map(text(), value, 32), 32);
    let fields = [
        ("driver", text()),
        ("allowMultipleAllocations", DeclType::simple(Type::Bool, 1)),
        ("attributes", by_name(DeclType::simple(Type::Dyn, 64))),
        ("capacity", by_name(DeclType::simple(Type::object("kubernetes.Quantity"), 64))),
    ];
    let fields = fields.into_iter().map(|(name, t)| (name.into(), t)).collect();
    let device = DeclType::object("kubernetes.DRADevice", fields);
    let env = Env::builder(Version::Minor(37)).library(Library::Bindings).declare("device", &device).build();
    Devices { env, sizes: DeclSizes::new([("device", device)]) }
});

/// What is wrong with an expression.
pub(super) fn verdict(expression: &str) -> Verdict {
    let program = match DEVICES.env.compile(expression, None) {
        Ok(program) => program,
        Err(error) => return Verdict::Bad(error.to_string()),
    };
    let kind = program.output_type();
    if !matches!(kind, Type::Bool | Type::Dyn) {
        return Verdict::Bad(format!("must evaluate to bool or the unknown type, not {kind}"));
    }
    if program.cost_estimate(&DEVICES.sizes).max > MOST_COST { Verdict::Expensive } else { Verdict::Good }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_compile_or_not() {
        let good = |e: &str| matches!(verdict(e), Verdict::Good);
        assert!(good("device.driver == 'a.example.com' && device.attributes['a'].b == 1"));
        assert!(!good("device.nothing"));
        assert!(!good("'text'"));
        assert!(!good("device.driver =="));
    }
}
