//! Terraform itself, with Amazon's provider, makes and changes and destroys what `examples/terraform` describes. Neither
//! comes from a package registry that tests may use, so that this runs where somebody has installed them:
//!
//! `cargo nextest run -p dormouse --test process_terraform --run-ignored only`
//!
//! `DORMOUSE_TERRAFORM_PLUGINS` names a directory of providers for machines that do not reach Terraform's registry.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may stop where it stands.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Ground, Server, run};
use serde_json::json;

/// Says of `plan` that there is nothing to do.
const NOTHING_TO_DO: Option<i32> = Some(0);

struct Terraform {
    dir: PathBuf,
    endpoint: String,
}

impl Terraform {
    /// Like the example's folder, with its package.
    fn begin(ground: &Ground, server: &Server<'_>) -> Terraform {
        let dir = ground.path().join("terraform");
        std::fs::create_dir(&dir).unwrap();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/terraform");
        std::fs::copy(example.join("main.tf"), dir.join("main.tf")).unwrap();
        let pack = ["-m", "zipfile", "-c"];
        let mut zip = Command::new(testkit::python());
        zip.args(pack).arg(dir.join("hello.zip")).arg("app.py").current_dir(example.join("src"));
        assert_eq!(run(&mut zip).code, Some(0));
        let terraform = Terraform { dir, endpoint: format!("http://{}", server.address) };
        let plugins = std::env::var("DORMOUSE_TERRAFORM_PLUGINS").map(|dir| format!("-plugin-dir={dir}"));
        let init: Vec<_> = ["init".to_owned()].into_iter().chain(plugins).collect();
        assert_eq!(terraform.code(&init.iter().map(String::as_str).collect::<Vec<_>>()), Some(0));
        terraform
    }

    /// How it ended.
    fn code(&self, args: &[&str]) -> Option<i32> {
        let mut command = Command::new("terraform");
        command
            .args(args)
            .current_dir(&self.dir)
            .env("TF_VAR_endpoint", &self.endpoint)
            .env_remove("TF_CLI_CONFIG_FILE");
        let ran = run(command.arg("-no-color"));
        eprintln!("terraform {args:?}: {}{}", ran.stdout, ran.stderr);
        ran.code
    }

    /// Makes it so, and looks whether it is.
    #[track_caller]
    fn apply(&self, args: &[&str]) {
        assert_eq!(self.code(&[&["apply", "-auto-approve"], args].concat()), Some(0));
        assert_eq!(self.code(&[&["plan", "-detailed-exitcode"], args].concat()), NOTHING_TO_DO);
    }
}

#[test]
#[ignore = "needs Terraform and Amazon's provider for it"]
fn terraform_makes_changes_and_destroys() {
    let ground = Ground::new();
    let server = Server::start(&ground);
    let terraform = Terraform::begin(&ground, &server);
    terraform.apply(&[]);
    let event = json!({ "name": "you" });
    assert_eq!(server.invoke("hello:live", &event).json(), json!("hello you, from 256 MB"));
    terraform.apply(&["-var=memory_mb=384"]);
    assert_eq!(server.invoke("hello:live", &event).json(), json!("hello you, from 384 MB"));
    assert_eq!(terraform.code(&["destroy", "-auto-approve"]), Some(0));
    assert_eq!(server.invoke("hello", &event).status, 404);
    server.stop();
}
