//! A configuration that is read again: by content, since a ConfigMap is swapped by a symlink and keeps no useful times.

use std::path::PathBuf;

use crate::load::{Loaded, Problems, load};

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub struct Source {
    file: Option<PathBuf>,
    env: Vec<(String, String)>,
    in_force: String,
    refused: Option<Problems>,
}

/// What reading it again showed.
#[derive(Clone, Debug, PartialEq)]
pub enum Reload {
    /// The content is the same.
    Same,
    /// New settings.
    Changed(Box<Loaded>),
    /// It is bad: the old configuration stays. Told once per distinct set of problems.
    Bad(Problems),
}

impl Source {
    /// Reads it for the first time.
    ///
    /// # Errors
    /// All problems at once.
    pub fn open(file: Option<PathBuf>, env: Vec<(String, String)>) -> Result<(Self, Loaded), Problems> {
        let loaded = load(file.as_deref(), env.clone())?;
        Ok((Self { file, env, in_force: loaded.hash.clone(), refused: None }, loaded))
    }

    /// Reads it again.
    pub fn reload(&mut self) -> Reload {
        match load(self.file.as_deref(), self.env.clone()) {
            Ok(loaded) if loaded.hash == self.in_force => {
                self.refused = None;
                Reload::Same
            }
            Ok(loaded) => {
                self.in_force.clone_from(&loaded.hash);
                self.refused = None;
                Reload::Changed(Box::new(loaded))
            }
            Err(problems) if self.refused.as_ref() == Some(&problems) => Reload::Same,
            Err(problems) => {
                self.refused = Some(problems.clone());
                Reload::Bad(problems)
            }
        }
    }
}
