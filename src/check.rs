//! `nameward check`: asks once from here and says what is wrong.

use crate::cli::CheckArgs;
use crate::exit::{Failure, Found};

pub(crate) fn check(_args: &CheckArgs) -> Result<Found, Failure> {
    Err(Failure::Usage("being written".to_owned()))
}
