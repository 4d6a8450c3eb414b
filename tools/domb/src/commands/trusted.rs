//! What a platform is signed with and what its db-boot is to require: the options, and what a platform file says.

use std::path::PathBuf;

use image::builder::Builder;
use image::platform::Platform;
use image::signing::{self, Release};
use protocols::trust_note::BuiltIn;
use trust::{PublicKey, SigningKey, sha256};

use crate::arguments;
use crate::messages::{self, Failure};

/// Keys and settings of one platform. An option wins over `[trust]` in the platform file.
pub(super) struct Trusted {
    /// Signs the RAM disk.
    pub(super) sign: Option<SigningKey>,
    /// What db-boot's command line requires.
    require: Option<PublicKey>,
    pub(super) release: Release,
    measure: bool,
    must_be_built_in: bool,
    /// The VMs that are given the event log.
    pub(super) event_log: Vec<String>,
}

impl Trusted {
    /// Reads the keys.
    pub(super) fn read(platform: &Platform, chosen: &arguments::Stack) -> Result<Self, Failure> {
        let table = platform.trust();
        let sign = chosen
            .sign
            .as_ref()
            .or(table.key.as_ref())
            .map(|path| signing::read_private(path))
            .transpose()?;
        // A key that is chosen for signing is the one to require, whatever the platform file says.
        let by_file = table.require.as_ref().filter(|_| chosen.sign.is_none());
        let require: Option<&PathBuf> = chosen.trust.as_ref().or(by_file);
        let require = match (require, &sign) {
            (Some(path), _) => Some(signing::read_public(path)?),
            (None, Some(key)) => Some(key.public().map_err(Failure::new)?),
            (None, None) => None,
        };
        let named = table.event_log.iter().map(|name| name.value.clone());
        let event_log = if chosen.event_log.is_empty() { named.collect() } else { chosen.event_log.clone() };
        Ok(Self {
            sign,
            require,
            release: Release {
                platform: chosen.release.platform.clone().unwrap_or_else(|| table.name.clone()),
                version: chosen.release.platform_version.unwrap_or(table.version),
            },
            measure: table.measure,
            must_be_built_in: table.built_in,
            event_log,
        })
    }

    /// The words for db-boot's command line, each with a blank behind it.
    pub(super) fn args(&self) -> String {
        match (&self.require, self.measure) {
            (Some(key), _) => format!("trust=require:{key} "),
            (None, true) => "trust=measure ".into(),
            (None, false) => String::new(),
        }
    }

    /// Says so when db-boot's command line will ask for a key that has not signed the RAM disk. That may be on purpose: it can be
    /// signed later.
    fn warn_of_another_key(&self, has_built_in: bool) -> Result<(), Failure> {
        let Some(required) = &self.require else { return Ok(()) };
        let signed_with = self.sign.as_ref().map(SigningKey::public).transpose().map_err(Failure::new)?;
        let id = required.id();
        match signed_with {
            // What is built in has a message of its own.
            None if has_built_in => {}
            None => messages::warn(&format!(
                "db-boot will require key {id}, and this is not signed yet: `domb sign`, or --sign"
            )),
            Some(key) if key.bytes() != required.bytes() => messages::warn(&format!(
                "this is signed with key {}, and db-boot will require key {id}: it refuses this RAM disk until that key has \
                 signed it",
                key.id()
            )),
            Some(_) => {}
        }
        Ok(())
    }

    /// Whether a db-boot with what is built into it takes a RAM disk of ours, as far as that can be known before it runs.
    pub(super) fn check(&self, builder: &Builder) -> Result<(), Failure> {
        self.warn_of_another_key(builder.built_in.is_some())?;
        let path = builder.path.display();
        let Some(BuiltIn { key, least_version }) = builder.built_in else {
            return if self.must_be_built_in {
                Err(Failure::new(format!(
                    "{path}: no key is built into this db-boot, and the platform file says `built_in = true`; \
                     make it with `make db-boot TRUST_KEY=FILE.pub`"
                )))
            } else {
                Ok(())
            };
        };
        let id = sha256(&key);
        match &self.require {
            Some(required) if required.bytes() != key => {
                return Err(Failure::new(format!(
                    "{path}: this db-boot has key {id} built in and would refuse to be asked for key {}; sign with the \
                     former, or take a db-boot that is made without TRUST_KEY",
                    required.id()
                )));
            }
            _ => {}
        }
        if self.sign.is_none() {
            messages::warn(&format!(
                "{path}: this db-boot builds only what key {id} has signed, and this is not signed yet: `domb sign`, or --sign"
            ));
        } else if self.release.version < least_version {
            return Err(Failure::new(format!(
                "{path}: this db-boot accepts version {least_version} or later, and the platform is signed as version {}; \
                 raise --platform-version, or `version` below [trust] in the platform file",
                self.release.version
            )));
        }
        Ok(())
    }
}
