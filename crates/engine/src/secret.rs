//! Values that are used and never written down.
//!
//! What the user's environment handed in goes to the target and nowhere else: wherever a row or an exchange would show
//! it, as it is, percent-encoded or escaped for JSON, stands `***`.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value;

/// What stands in the place of a secret.
const MASK: &str = "***";
/// A value shorter than this hides nothing, and masking it would garble text that has nothing to do with it. Taste.
const SHORTEST: usize = 4;
/// What the names of variables from the environment begin with.
const PREFIX: &str = "env.";

/// The values to mask, in every form in which they can appear, longest first.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// Those among a plan's variables, which are the ones from the environment, and `more`.
    pub fn among(variables: &HashMap<String, String>, more: &[String]) -> Self {
        let mut forms: Vec<String> = variables
            .iter()
            .filter_map(|(name, value)| name.starts_with(PREFIX).then_some(value))
            .chain(more)
            .filter(|value| value.len() >= SHORTEST)
            .flat_map(|value| [value.clone(), percent_encoded(value), json_escaped(value)])
            .collect();
        forms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        forms.dedup();
        Self(forms)
    }

    /// The text without any of them.
    pub fn masked<'t>(&self, text: Cow<'t, str>) -> Cow<'t, str> {
        self.0.iter().fold(text, |text, secret| {
            if text.contains(secret.as_str()) { Cow::Owned(text.replace(secret.as_str(), MASK)) } else { text }
        })
    }

    /// Masks every text in the value, but for the names of objects.
    pub fn mask(&self, value: &mut Value) {
        if self.0.is_empty() {
            return;
        }
        match value {
            Value::String(text) => {
                if let Cow::Owned(masked) = self.masked(Cow::Borrowed(text)) {
                    *text = masked;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.mask(item)),
            Value::Object(items) => items.values_mut().for_each(|item| self.mask(item)),
            _ => {}
        }
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn json_escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(value: &str) -> Secrets {
        Secrets::among(&HashMap::from([("env.TOKEN".into(), value.into()), ("shop".into(), "openly".into())]), &[])
    }

    #[test]
    fn a_secret_is_masked_in_every_form_it_can_take() {
        let secrets = secrets("p&s \"w\"rd");
        for form in ["p&s \"w\"rd", "p%26s%20%22w%22rd", "p&s \\\"w\\\"rd"] {
            assert_eq!(secrets.masked(format!("before {form} after").into()), "before *** after");
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        assert_eq!(secrets("hunter22").masked("openly".into()), "openly");
        assert_eq!(secrets("abc").masked("abcd".into()), "abcd", "three letters hide nothing");
    }

    #[test]
    fn a_value_is_masked_at_every_depth() {
        let mut value = serde_json::json!({"request": {"headers": [["x-key", "hunter22"]], "body_bytes": 8}});
        secrets("hunter22").mask(&mut value);
        assert_eq!(value, serde_json::json!({"request": {"headers": [["x-key", "***"]], "body_bytes": 8}}));
    }
}
