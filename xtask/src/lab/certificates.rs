//! The lab's own certificate authority, its certificate for the site, and the other secrets.
//!
//! Made by openssl at the first start, valid for a month. The authority is constrained to the site's name
//! and this machine's loopback: somebody who makes a browser trust it risks nothing else.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::topology::{Run, SITE};
use crate::exec;

const DAYS: &str = "30";

/// The authority's certificate, for clients to trust.
pub(crate) fn authority(run: &Run) -> PathBuf {
    run.directory().join("certificates/ca.crt")
}

/// Makes certificates and secrets; those that are there stay.
pub(crate) fn create(run: &Run) -> Result<()> {
    let certificates = run.directory().join("certificates");
    let secrets = run.directory().join("secrets");
    fs::create_dir_all(&certificates)?;
    fs::create_dir_all(&secrets)?;
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o700))?;
    for (name, bytes) in [("jwt.secret", 32), ("db.password", 24)] {
        let file = secrets.join(name);
        if !file.exists() {
            fs::write(&file, random_hex(bytes)?)
                .with_context(|| format!("cannot write {}", file.display()))?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        }
    }
    if !certificates.join("site.crt").exists() {
        issue(&certificates, &secrets).context("cannot make the lab's certificates")?;
    }
    Ok(())
}

fn issue(certificates: &Path, secrets: &Path) -> Result<()> {
    let (ca_key, ca) = (secrets.join("ca.key"), certificates.join("ca.crt"));
    let (key, request) = (secrets.join("site.key"), secrets.join("site.csr"));
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"];
    openssl(
        Command::new("openssl")
            .args(["req", "-x509"])
            .args(new_key)
            .args(["-days", DAYS, "-subj", "/CN=foobar lab"])
            .args(["-addext", "basicConstraints=critical,CA:TRUE,pathlen:0"])
            .args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"])
            .args(["-addext", &constraints()])
            .arg("-keyout")
            .arg(&ca_key)
            .arg("-out")
            .arg(&ca),
    )?;
    openssl(
        Command::new("openssl")
            .arg("req")
            .args(new_key)
            .args(["-subj", &format!("/CN={SITE}"), "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&request),
    )?;
    let extensions = secrets.join("site.ext");
    fs::write(
        &extensions,
        format!(
            "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n\
             extendedKeyUsage=serverAuth\nsubjectAltName=DNS:{SITE},DNS:localhost,IP:127.0.0.1\n"
        ),
    )?;
    let leaf = certificates.join("site.crt");
    openssl(
        Command::new("openssl")
            .args([
                "x509",
                "-req",
                "-days",
                DAYS,
                "-set_serial",
                &format!("0x{}", random_hex(8)?),
                "-in",
            ])
            .arg(&request)
            .arg("-CA")
            .arg(&ca)
            .arg("-CAkey")
            .arg(&ca_key)
            .arg("-extfile")
            .arg(&extensions)
            .arg("-out")
            .arg(&leaf),
    )?;
    fs::remove_file(request)?;
    fs::remove_file(extensions)?;
    Ok(())
}

fn constraints() -> String {
    format!(
        "nameConstraints=critical,permitted;DNS:{SITE},permitted;DNS:localhost,permitted;IP:127.0.0.1/255.255.255.255"
    )
}

/// Runs openssl so that no file it makes is ever readable by others; certificates are opened afterwards.
fn openssl(command: &mut Command) -> Result<()> {
    let mut guarded = Command::new("sh");
    guarded
        .args(["-c", "umask 077; exec \"$@\"", "sh"])
        .arg(command.get_program())
        .args(command.get_args());
    exec::output(&mut guarded)?;
    let out = command
        .get_args()
        .skip_while(|word| *word != "-out")
        .nth(1)
        .map(PathBuf::from);
    match out.filter(|file| file.extension().is_some_and(|extension| extension == "crt")) {
        Some(certificate) => Ok(fs::set_permissions(
            certificate,
            fs::Permissions::from_mode(0o644),
        )?),
        None => Ok(()),
    }
}

fn random_hex(bytes: usize) -> Result<String> {
    let mut random = vec![0; bytes];
    fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
