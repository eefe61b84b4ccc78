//! Resource quantities (upstream's pkg/cel/library/quantity.go).

use super::{int, object, text};
use crate::decls::short::*;
use crate::eval::{EvalError, Res};
use crate::val::{Object, Val};
use machinery::Quantity;
use machinery::quantity::Format;
use std::any::Any;
use std::cmp::Ordering;

/// The type's name.
pub(crate) const NAME: &str = "kubernetes.Quantity";

/// A quantity as a value of an expression.
#[derive(Clone, Debug)]
pub struct QuantityVal(pub Quantity);

impl Object for QuantityVal {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn type_name(&self) -> &str {
        NAME
    }

    fn native_text(&self) -> Option<std::string::String> {
        Some(self.0.to_string())
    }

    fn equals(&self, other: &dyn Object) -> Option<bool> {
        Some(self.0 == other.as_any().downcast_ref::<Self>()?.0)
    }
}

fn quantity<'v>(args: &'v [Val<'_>], i: usize) -> Result<&'v Quantity, EvalError> {
    object::<QuantityVal>(args, i).map(|q| &q.0)
}

fn val<'a>(q: Quantity) -> Res<'a> {
    Ok(Val::object(QuantityVal(q)))
}

fn order(args: &[Val<'_>]) -> Result<Ordering, EvalError> {
    Ok(quantity(args, 0)?.cmp(quantity(args, 1)?))
}

fn combined<'a>(args: &[Val<'a>], with: fn(&mut Quantity, &Quantity)) -> Res<'a> {
    let mut q = quantity(args, 0)?.clone();
    match &args[1] {
        Val::Int(_) => with(&mut q, &Quantity::new(int(args, 1)?, Format::DecimalExponent)),
        _ => with(&mut q, quantity(args, 1)?),
    }
    val(q)
}

pub(crate) fn functions() -> Vec<Function> {
    let q = || Type::object(NAME);
    vec![
        func("quantity").global("string_to_quantity", vec![String], q()).code(|args| {
            match Quantity::parse(text(args, 0)?) {
                Ok(q) => val(q),
                Err(e) => Err(EvalError::new(e.to_string())),
            }
        }),
        func("isQuantity")
            .global("is_quantity_string", vec![String], Bool)
            .code(|args| Ok(Val::Bool(Quantity::parse(text(args, 0)?).is_ok()))),
        func("sign")
            .global("quantity_sign", vec![q()], Int)
            .code(|args| Ok(Val::Int(quantity(args, 0)?.sign().into()))),
        func("isGreaterThan")
            .member("quantity_is_greater_than", vec![q(), q()], Bool)
            .code(|args| Ok(Val::Bool(order(args)?.is_gt()))),
        func("isLessThan")
            .member("quantity_is_less_than", vec![q(), q()], Bool)
            .code(|args| Ok(Val::Bool(order(args)?.is_lt()))),
        func("compareTo")
            .member("quantity_compare_to", vec![q(), q()], Int)
            .code(|args| Ok(Val::Int(order(args)? as i64))),
        func("asApproximateFloat")
            .member("quantity_get_float", vec![q()], Double)
            .code(|args| Ok(Val::Double(quantity(args, 0)?.as_f64()))),
        func("asInteger").member("quantity_get_int", vec![q()], Int).code(|args| {
            let whole = quantity(args, 0)?.as_i64();
            whole.map(Val::Int).ok_or_else(|| EvalError::new("cannot convert value to integer"))
        }),
        func("isInteger")
            .member("quantity_is_integer", vec![q()], Bool)
            .code(|args| Ok(Val::Bool(quantity(args, 0)?.as_i64().is_some()))),
        func("add")
            .member("quantity_add", vec![q(), q()], q())
            .code(|args| combined(args, Quantity::add))
            .member("quantity_add_int", vec![q(), Int], q())
            .code(|args| combined(args, Quantity::add)),
        func("sub")
            .member("quantity_sub", vec![q(), q()], q())
            .code(|args| combined(args, Quantity::sub))
            .member("quantity_sub_int", vec![q(), Int], q())
            .code(|args| combined(args, Quantity::sub)),
    ]
}
