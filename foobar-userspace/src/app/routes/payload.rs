//! Reading a request's JSON body field by field, so that everything wrong with it is told at once.
//!
//! Handlers read the body after token, existence and ownership have been checked. The content type is not
//! asked for: a body that is JSON is taken.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{FromRequest as _, Request};
use serde_json::{Map, Value};

use crate::app::error::{ApiError, FieldErrors};

/// What a value that is missing, null or empty is told.
const BLANK: &str = "can't be blank";
/// The most tags of an article, and the longest, in characters.
const MAX_TAGS: usize = 32;
const MAX_TAG: usize = 64;

/// The object of a request's body, and what is wrong with it so far.
#[derive(Debug)]
pub(super) struct Form {
    fields: Map<String, Value>,
    errors: FieldErrors,
}

impl Form {
    /// Reads a body of the form `{"<root>": {...}}`.
    ///
    /// # Errors
    /// Where the body is too large, is no JSON or has no such object.
    pub(super) async fn read(request: Request, root: &str) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, &())
            .await
            .map_err(|rejection| match rejection {
                BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
                    ApiError::TooLarge
                }
                _ => ApiError::invalid("body", "ended early"),
            })?;
        Self::parse(&bytes, root)
    }

    fn parse(bytes: &[u8], root: &str) -> Result<Self, ApiError> {
        let value: Value =
            serde_json::from_slice(bytes).map_err(|_| ApiError::invalid("body", "is not valid JSON"))?;
        let Value::Object(mut outer) = value else {
            return Err(ApiError::invalid("body", "must be an object"));
        };
        match outer.remove(root) {
            Some(Value::Object(fields)) => Ok(Self {
                fields,
                errors: FieldErrors::new(),
            }),
            None | Some(Value::Null) => Err(ApiError::invalid(root, BLANK)),
            Some(_) => Err(ApiError::invalid(root, "must be an object")),
        }
    }

    /// Notes a message for a field.
    pub(super) fn refuse(&mut self, field: &str, message: impl Into<String>) {
        self.errors
            .entry(field.to_owned())
            .or_default()
            .push(message.into());
    }

    /// A text that must be there. What comes back for a refused one is empty and never used: [`Self::done`]
    /// then fails.
    pub(super) fn text(&mut self, field: &str, max: usize) -> String {
        if !self.fields.contains_key(field) {
            self.refuse(field, BLANK);
        }
        self.text_if_given(field, max).unwrap_or_default()
    }

    /// A text that may be left out, but not be empty.
    pub(super) fn text_if_given(&mut self, field: &str, max: usize) -> Option<String> {
        match self.fields.remove(field)? {
            Value::String(text) if !text.trim().is_empty() => self.at_most(field, text, max),
            Value::String(_) | Value::Null => {
                self.refuse(field, BLANK);
                None
            }
            _ => {
                self.refuse(field, "must be a string");
                None
            }
        }
    }

    /// A text that may be left out, and where null or the empty string mean none.
    pub(super) fn nullable(&mut self, field: &str, max: usize) -> Option<Option<String>> {
        match self.fields.remove(field)? {
            Value::Null => Some(None),
            Value::String(text) if text.is_empty() => Some(None),
            Value::String(text) => self.at_most(field, text, max).map(Some),
            _ => {
                self.refuse(field, "must be a string or null");
                None
            }
        }
    }

    /// A list of tags that may be left out, but not be null. Keeps the order; a repeated tag counts once.
    pub(super) fn tags(&mut self, field: &str) -> Option<Vec<String>> {
        let Value::Array(values) = self.fields.remove(field)? else {
            self.refuse(field, "must be a list of strings");
            return None;
        };
        let mut tags: Vec<String> = Vec::with_capacity(values.len().min(MAX_TAGS));
        for value in values {
            let Value::String(tag) = value else {
                self.refuse(field, "must be a list of strings");
                return None;
            };
            let tag = tag.trim();
            if tag.is_empty() {
                self.refuse(field, "can't contain blank tags");
                return None;
            }
            if tag.chars().count() > MAX_TAG {
                self.refuse(
                    field,
                    format!("can't contain tags of more than {MAX_TAG} characters"),
                );
                return None;
            }
            if !tags.iter().any(|other| other == tag) {
                tags.push(tag.to_owned());
            }
            if tags.len() > MAX_TAGS {
                self.refuse(field, format!("can't contain more than {MAX_TAGS} tags"));
                return None;
            }
        }
        Some(tags)
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Everything that was wrong.
    pub(super) fn done(self) -> Result<(), ApiError> {
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(ApiError::Invalid(self.errors))
        }
    }

    fn at_most(&mut self, field: &str, text: String, max: usize) -> Option<String> {
        if text.chars().count() <= max {
            return Some(text);
        }
        self.refuse(field, format!("is too long (at most {max} characters)"));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(json: &str) -> Form {
        Form::parse(json.as_bytes(), "user").unwrap()
    }

    fn refusals(form: Form) -> Vec<(String, String)> {
        match form.done() {
            Err(ApiError::Invalid(errors)) => errors
                .into_iter()
                .map(|(field, messages)| (field, messages.join("; ")))
                .collect(),
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn a_body_without_its_object_is_refused() {
        for (json, field, message) in [
            ("", "body", "is not valid JSON"),
            ("{\"user\":", "body", "is not valid JSON"),
            ("[]", "body", "must be an object"),
            ("{}", "user", BLANK),
            ("{\"user\":null}", "user", BLANK),
            ("{\"user\":\"x\"}", "user", "must be an object"),
        ] {
            let Err(ApiError::Invalid(errors)) = Form::parse(json.as_bytes(), "user") else {
                panic!("{json} was taken");
            };
            assert_eq!(errors[field], [message], "{json}");
        }
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let mut form = form(r#"{"user":{"a":"","b":null,"c":7,"d":"toolong","e":"  "}}"#);
        for field in ["a", "b", "c", "d", "e", "f"] {
            form.text(field, 5);
        }
        let blank = |field: &str| (field.to_owned(), BLANK.to_owned());
        assert_eq!(
            refusals(form),
            [
                blank("a"),
                blank("b"),
                ("c".to_owned(), "must be a string".to_owned()),
                ("d".to_owned(), "is too long (at most 5 characters)".to_owned()),
                blank("e"),
                blank("f"),
            ]
        );
    }

    #[test]
    fn lengths_are_counted_in_characters() {
        let mut form = form(r#"{"user":{"a":"ééééé"}}"#);
        assert_eq!(form.text("a", 5), "ééééé");
        form.done().unwrap();
    }

    #[test]
    fn null_and_empty_mean_none_where_a_field_is_nullable() {
        let mut form = form(r#"{"user":{"a":null,"b":"","c":"x"}}"#);
        assert_eq!(form.nullable("a", 5), Some(None));
        assert_eq!(form.nullable("b", 5), Some(None));
        assert_eq!(form.nullable("c", 5), Some(Some("x".to_owned())));
        assert_eq!(form.nullable("d", 5), None);
        form.done().unwrap();
    }

    #[test]
    fn tags_keep_their_order_and_null_is_refused() {
        let mut form = form(r#"{"user":{"a":["b","a","b"],"b":[],"c":null,"d":["x",1],"e":[" "]}}"#);
        assert_eq!(form.tags("a").unwrap(), ["b", "a"]);
        assert_eq!(form.tags("b").unwrap(), Vec::<String>::new());
        assert_eq!(form.tags("missing"), None);
        for field in ["c", "d", "e"] {
            assert_eq!(form.tags(field), None);
        }
        assert_eq!(refusals(form).len(), 3);
    }
}
