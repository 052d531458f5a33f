//! Who is asking: passwords, tokens, and the extractor that turns a request's token into a user.

mod caller;
mod password;
mod token;

pub(super) use caller::Caller;
pub(super) use password::Passwords;
pub(super) use token::Tokens;
