//! A small part of the Common Expression Language, enough for admission policies that compare an object with who
//! writes it: literals, members, indexes, `in`, `has()`, comparisons, `+ -` of whole numbers, `&& || !`, `?:`, on strings and lists
//! `size startsWith endsWith contains` calls, the macros `all` and `exists` on lists and on the keys of maps, and of Kubernetes'
//! quantities `quantity isLessThan isGreaterThan`. Anything else is an error, which a policy turns into a refusal.

use std::collections::BTreeMap;

use serde_json::{Number, Value, json};

use super::quantity::parse_milli;

/// Evaluates an expression over variables.
pub(crate) fn evaluate(source: &str, variables: &BTreeMap<&str, Value>) -> Result<Value, String> {
    let tokens = lex(source)?;
    let mut parser = Parser { tokens: &tokens, at: 0 };
    let expression = parser.ternary(0)?;
    if parser.at != tokens.len() {
        return Err(format!("unexpected {:?}", tokens[parser.at]));
    }
    run(&expression, variables)
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Int(i64),
    Sign(&'static str),
}

const SIGNS: [&str; 19] =
    ["&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "(", ")", "[", "]", ".", ",", "?", ":", "+", "-"];

fn lex(source: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = source.trim_start();
    while let Some(first) = rest.chars().next() {
        let taken = if first == '\'' || first == '"' {
            let body = &rest[1..];
            let end = body.find(first).ok_or("a string does not end")?;
            tokens.push(Token::Text(body[..end].replace("\\\\", "\\")));
            end + 2
        } else if first.is_ascii_digit() {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            tokens.push(Token::Int(rest[..end].parse().map_err(|_| "a number is too large")?));
            end
        } else if first.is_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..end].into()));
            end
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            tokens.push(Token::Sign(sign));
            sign.len()
        } else {
            return Err(format!("unexpected {first:?}"));
        };
        rest = rest[taken..].trim_start();
    }
    Ok(tokens)
}

#[derive(Clone, Debug)]
enum Expression {
    Value(Value),
    Variable(String),
    Member(Box<Expression>, String),
    Index(Box<Expression>, Box<Expression>),
    Call(Option<Box<Expression>>, String, Vec<Expression>),
    List(Vec<Expression>),
    Not(Box<Expression>),
    Binary(String, Box<Expression>, Box<Expression>),
    Choice(Box<Expression>, Box<Expression>, Box<Expression>),
}

struct Parser<'t> {
    tokens: &'t [Token],
    at: usize,
}

/// Deeper nesting is refused.
const DEPTH: usize = 32;

impl Parser<'_> {
    fn sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some(Token::Sign(s)) if *s == sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        if self.sign(sign) { Ok(()) } else { Err(format!("expected {sign:?}")) }
    }

    fn ternary(&mut self, depth: usize) -> Result<Expression, String> {
        if depth > DEPTH {
            return Err("nested too deeply".into());
        }
        let condition = self.binary(0, depth)?;
        if !self.sign("?") {
            return Ok(condition);
        }
        let yes = self.ternary(depth + 1)?;
        self.expect(":")?;
        let no = self.ternary(depth + 1)?;
        Ok(Expression::Choice(Box::new(condition), Box::new(yes), Box::new(no)))
    }

    fn operator(&self, level: usize) -> Option<&'static str> {
        const LEVELS: [&[&str]; 4] = [&["||"], &["&&"], &["==", "!=", "<=", ">=", "<", ">"], &["+", "-"]];
        match self.tokens.get(self.at)? {
            Token::Sign(sign) => LEVELS.get(level)?.iter().find(|known| *known == sign).copied(),
            Token::Word(word) if level == 2 && word == "in" => Some("in"),
            _ => None,
        }
    }

    fn binary(&mut self, level: usize, depth: usize) -> Result<Expression, String> {
        if level == 4 {
            return self.unary(depth);
        }
        let mut left = self.binary(level + 1, depth)?;
        while let Some(operator) = self.operator(level) {
            self.at += 1;
            let right = self.binary(level + 1, depth)?;
            left = Expression::Binary(operator.into(), Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn unary(&mut self, depth: usize) -> Result<Expression, String> {
        if depth > DEPTH {
            return Err("nested too deeply".into());
        }
        if self.sign("!") {
            return Ok(Expression::Not(Box::new(self.unary(depth + 1)?)));
        }
        let mut here = self.primary(depth)?;
        loop {
            if self.sign(".") {
                let Some(Token::Word(name)) = self.tokens.get(self.at).cloned() else {
                    return Err("expected a member's name".into());
                };
                self.at += 1;
                here = if self.sign("(") {
                    Expression::Call(Some(Box::new(here)), name, self.arguments(")", depth)?)
                } else {
                    Expression::Member(Box::new(here), name)
                };
            } else if self.sign("[") {
                let index = self.ternary(depth + 1)?;
                self.expect("]")?;
                here = Expression::Index(Box::new(here), Box::new(index));
            } else {
                return Ok(here);
            }
        }
    }

    fn arguments(&mut self, end: &str, depth: usize) -> Result<Vec<Expression>, String> {
        let mut arguments = Vec::new();
        if self.sign(end) {
            return Ok(arguments);
        }
        loop {
            arguments.push(self.ternary(depth + 1)?);
            if self.sign(end) {
                return Ok(arguments);
            }
            self.expect(",")?;
        }
    }

    fn primary(&mut self, depth: usize) -> Result<Expression, String> {
        let token = self.tokens.get(self.at).cloned().ok_or("the expression ends too early")?;
        self.at += 1;
        Ok(match token {
            Token::Text(text) => Expression::Value(Value::String(text)),
            Token::Int(number) => Expression::Value(Value::Number(Number::from(number))),
            Token::Sign("(") => {
                let inner = self.ternary(depth + 1)?;
                self.expect(")")?;
                inner
            }
            Token::Sign("[") => Expression::List(self.arguments("]", depth)?),
            Token::Word(word) => match word.as_str() {
                "true" => Expression::Value(Value::Bool(true)),
                "false" => Expression::Value(Value::Bool(false)),
                "null" => Expression::Value(Value::Null),
                _ if self.sign("(") => Expression::Call(None, word, self.arguments(")", depth)?),
                _ => Expression::Variable(word),
            },
            Token::Sign(sign) => return Err(format!("unexpected {sign:?}")),
        })
    }
}

fn run(expression: &Expression, variables: &BTreeMap<&str, Value>) -> Result<Value, String> {
    let eval = |expression: &Expression| run(expression, variables);
    Ok(match expression {
        Expression::Value(value) => value.clone(),
        Expression::Variable(name) => {
            variables.get(name.as_str()).cloned().ok_or_else(|| format!("undeclared reference to '{name}'"))?
        }
        Expression::Member(of, name) => eval(of)?.get(name).cloned().ok_or_else(|| format!("no such key: {name}"))?,
        Expression::Index(of, index) => {
            let (of, index) = (eval(of)?, eval(index)?);
            let found = match &index {
                Value::String(name) => of.get(name),
                Value::Number(number) => {
                    number.as_u64().and_then(|at| usize::try_from(at).ok()).and_then(|at| of.get(at))
                }
                _ => None,
            };
            found.cloned().ok_or_else(|| format!("no such key: {index}"))?
        }
        Expression::List(items) => Value::Array(items.iter().map(eval).collect::<Result<_, _>>()?),
        Expression::Not(inner) => Value::Bool(!truth(&eval(inner)?)?),
        Expression::Choice(condition, yes, no) => eval(if truth(&eval(condition)?)? { yes } else { no })?,
        Expression::Binary(operator, left, right) => return binary(operator, left, right, variables),
        Expression::Call(of, name, arguments) => return call(of.as_deref(), name, arguments, variables),
    })
}

fn truth(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "no such overload: a boolean is wanted".to_owned())
}

fn binary(
    operator: &str,
    left: &Expression,
    right: &Expression,
    variables: &BTreeMap<&str, Value>,
) -> Result<Value, String> {
    let left = run(left, variables)
        .and_then(|value| if matches!(operator, "&&" | "||") { truth(&value).map(Value::Bool) } else { Ok(value) });
    // An error on one side does not matter if the other side decides.
    if operator == "&&" || operator == "||" {
        let decides = Value::Bool(operator == "||");
        if left.as_ref() == Ok(&decides) {
            return left;
        }
        let right = run(right, variables).and_then(|value| truth(&value).map(Value::Bool));
        return if right.as_ref() == Ok(&decides) { right } else { left.and(right) };
    }
    let (left, right) = (left?, run(right, variables)?);
    Ok(Value::Bool(match operator {
        "==" => left == right,
        "!=" => left != right,
        "+" | "-" => {
            let sum = match (left.as_i64(), right.as_i64()) {
                (Some(one), Some(two)) if operator == "+" => one.checked_add(two),
                (Some(one), Some(two)) => one.checked_sub(two),
                _ => return Err(format!("no such overload: {operator}")),
            };
            return sum.map(Value::from).ok_or_else(|| "integer overflow".to_owned());
        }
        "in" => match &right {
            Value::Array(items) => items.contains(&left),
            Value::Object(map) => left.as_str().is_some_and(|name| map.contains_key(name)),
            _ => return Err("no such overload: in".into()),
        },
        _ => {
            let order = match (&left, &right) {
                (Value::Number(one), Value::Number(two)) => one.as_f64().partial_cmp(&two.as_f64()),
                (Value::String(one), Value::String(two)) => Some(one.cmp(two)),
                _ => None,
            };
            let order = order.ok_or("no such overload: comparison")?;
            match operator {
                "<" => order.is_lt(),
                "<=" => order.is_le(),
                ">" => order.is_gt(),
                _ => order.is_ge(),
            }
        }
    }))
}

fn call(
    of: Option<&Expression>,
    name: &str,
    arguments: &[Expression],
    variables: &BTreeMap<&str, Value>,
) -> Result<Value, String> {
    if let (None, "has", [Expression::Member(of, name)]) = (of, name, arguments) {
        return Ok(Value::Bool(run(of, variables)?.get(name).is_some_and(|value| !value.is_null())));
    }
    if let (Some(of), "all" | "exists", [Expression::Variable(bound), condition]) = (of, name, arguments) {
        return each(&run(of, variables)?, (name == "exists", bound), condition, variables);
    }
    let mut values = Vec::new();
    for argument in of.into_iter().chain(arguments) {
        values.push(run(argument, variables)?);
    }
    match (name, values.as_slice()) {
        ("size", [Value::String(text)]) => Ok(text.chars().count().into()),
        ("size", [Value::Array(items)]) => Ok(items.len().into()),
        ("size", [Value::Object(map)]) => Ok(map.len().into()),
        ("startsWith", [Value::String(text), Value::String(other)]) => Ok(text.starts_with(other.as_str()).into()),
        ("endsWith", [Value::String(text), Value::String(other)]) => Ok(text.ends_with(other.as_str()).into()),
        ("contains", [Value::String(text), Value::String(other)]) => Ok(text.contains(other.as_str()).into()),
        // A quantity is what it was read from, once it is known to be one.
        ("quantity", [Value::String(text)]) => match parse_milli(text) {
            Some(_) => Ok(json!({QUANTITY: text})),
            None => Err(format!("invalid quantity: {text}")),
        },
        ("isLessThan" | "isGreaterThan", [one, two]) => {
            let milli = |of: &Value| of.get(QUANTITY).and_then(Value::as_str).and_then(parse_milli);
            match (milli(one), milli(two)) {
                (Some(one), Some(two)) => Ok((if name == "isLessThan" { one < two } else { one > two }).into()),
                _ => Err(format!("no such overload: {name}")),
            }
        }
        _ => Err(format!("no such overload: {name}")),
    }
}

/// What marks a quantity among the values.
const QUANTITY: &str = "$quantity";

/// `list.all(x, condition)` and `list.exists(x, condition)`; of a map, its keys. As with `&&` and `||`, an error matters only if nothing decides.
fn each(
    of: &Value,
    (exists, bound): (bool, &str),
    condition: &Expression,
    variables: &BTreeMap<&str, Value>,
) -> Result<Value, String> {
    let items: Vec<Value> = match of {
        Value::Array(items) => items.clone(),
        Value::Object(map) => map.keys().cloned().map(Value::String).collect(),
        _ => return Err("no such overload: a list or a map is wanted".into()),
    };
    let mut result = Ok(Value::Bool(!exists));
    for item in items {
        let mut inner = variables.clone();
        inner.insert(bound, item);
        match run(condition, &inner).and_then(|value| truth(&value)) {
            Ok(holds) if holds == exists => return Ok(Value::Bool(exists)),
            Ok(_) => {}
            Err(error) => result = Err(error),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn expressions() {
        let mut variables = BTreeMap::new();
        variables.insert("request", json!({"userInfo": {"username": "u:a", "extra": {"x/node": ["n1"]}}}));
        variables.insert("object", json!({"metadata": {"name": "n1"}}));
        for (source, wanted) in [
            ("'x/node' in request.userInfo.extra && object.metadata.name == request.userInfo.extra['x/node'][0]", true),
            ("request.userInfo.username == 'u:b' || request.userInfo.username.startsWith(\"u:\")", true),
            ("!has(object.spec)", true),
            ("object.spec.x == 1 && false", false),
            ("has(object.metadata) ? size(object.metadata.name) == 2 : false", true),
            ("object.metadata.name in ['n2', 'n3']", false),
            ("[1, 2].all(x, x > 0) && ![1, 2].all(x, x > 1)", true),
            ("[1, 2].exists(x, x > 1) && ![].exists(x, true) && [].all(x, false)", true),
            ("[1, 2].all(x, [2, 1].exists(y, x == y && object.metadata.name == 'n1'))", true),
            ("['a', 1].exists(x, x == 1 || x.startsWith('b'))", true),
            ("1 + 2 - 1 == 2 && 1 <= 2 - 1 && size('ab') - 3 < 0", true),
            ("object.metadata.all(k, k == 'name') && !object.metadata.exists(k, k == 'x')", true),
            ("quantity('170Mi').isLessThan(quantity('1Gi')) && !quantity('1000m').isLessThan(quantity('1'))", true),
            ("quantity('2').isGreaterThan(quantity('1500m'))", true),
        ] {
            assert_eq!(evaluate(source, &variables), Ok(json!(wanted)), "{source}");
        }
        for bad in [
            "object.spec.x == 1",
            "1 +",
            "nope",
            "(",
            "'a",
            "object.metadata && true",
            "a.map(x, x)",
            "[1].all(x, y)",
            "x.all(x, true)",
            "1 + 'a' == 2",
            "quantity('much').isLessThan(quantity('1'))",
            "'1'.isLessThan('2')",
            "object.metadata.name.all(x, true)",
        ] {
            assert!(evaluate(bad, &variables).is_err(), "{bad}");
        }
    }
}
