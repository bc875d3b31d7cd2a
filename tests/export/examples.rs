//! The examples of `deploy/examples`: a real Collector accepts its configurations, and the scripts of other tools' checks
//! report what the checks of a canary say.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::traces::same;

pub(crate) fn trials(program: &Path) -> Vec<Trial> {
    let program = program.to_owned();
    vec![
        Trial::test(
            "examples: a Collector accepts its configurations",
            move || accepts(&program),
        ),
        Trial::test(
            "examples: the check of Kuberhealthy reports the checks",
            kuberhealthy,
        ),
        Trial::test(
            "examples: the plugin of Sonobuoy reports the checks",
            sonobuoy,
        ),
    ]
}

fn example(name: &str) -> Result<String, Failed> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples");
    Ok(fs::read_to_string(folder.join(name))?)
}

/// The Collector of the tests has no exporter for Zipkin; of that configuration, the rest is validated.
fn accepts(program: &Path) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    for name in ["jaeger", "tempo", "zipkin"] {
        let text = example(&format!("collector/{name}.yaml"))?;
        let text = text
            .replace("  zipkin:\n", "  otlphttp/zipkin:\n")
            .replace("[zipkin]", "[otlphttp/zipkin]");
        let file = folder.path().join(name);
        fs::write(&file, text)?;
        let validated = Command::new(program)
            .args(["validate", "--config"])
            .arg(file)
            .output()?;
        if !validated.status.success() {
            let why = String::from_utf8_lossy(&validated.stderr).into_owned();
            return Err(format!("{name}: {why}").into());
        }
    }
    Ok(())
}

/// What kubectl prints of two checks, and of none.
const FAILING: &str =
    r#"default\tFalse\tnode-1: "hairpin-off" <proven> & more\nother\tTrue\tfine\n"#;
const HEALTHY: &str = r"default\tTrue\tno failure is confirmed\n";

/// Runs a script where `kubectl` prints this.
fn run(script: &str, printed: &str, variables: &[(&str, &str)]) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let kubectl: PathBuf = folder.path().join("kubectl");
    fs::write(&kubectl, format!("#!/bin/sh\nprintf '{printed}'\n"))?;
    fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755))?;
    let path = std::env::var("PATH")?;
    let output = Command::new("sh")
        .args(["-c", script])
        .env("PATH", format!("{}:{path}", folder.path().display()))
        .envs(variables.iter().copied())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
}

fn kuberhealthy() -> Result<(), Failed> {
    let text = example("kuberhealthy-check.yaml")?;
    let first = text.split("\n---\n").next().unwrap_or_default();
    let check: Value = serde_saphyr::from_str(first)?;
    let container = &check["spec"]["podSpec"]["containers"][0];
    let script = container["args"][0].as_str().ok_or("it has a script")?;
    let failing = r#"default: Healthy=False: node-1: "hairpin-off" <proven> & more"#;
    for (printed, report) in [
        (FAILING, json!({"OK": false, "Errors": [failing]})),
        (HEALTHY, json!({"OK": true, "Errors": []})),
        (
            "",
            json!({"OK": false, "Errors": ["there is no ConnectivityCheck"]}),
        ),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}/externalCheckStatus", listener.local_addr()?);
        let received = thread::spawn(move || -> std::io::Result<String> {
            let (mut stream, _) = listener.accept()?;
            let mut request = String::new();
            let mut bytes = [0; 4096];
            // The body is the last line.
            while !request.ends_with('}') {
                let count = stream.read(&mut bytes)?;
                request += &String::from_utf8_lossy(&bytes[..count]);
                if count == 0 {
                    break;
                }
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
            Ok(request)
        });
        run(
            script,
            printed,
            &[("KH_REPORTING_URL", &url), ("KH_RUN_UUID", "an-id")],
        )?;
        let request = received.join().map_err(|_| "the server has panicked")??;
        let (head, body) = request.split_once("\r\n\r\n").unwrap_or_default();
        same(&head.contains("kh-run-uuid: an-id"), &true)?;
        same(&serde_json::from_str(body)?, &report)?;
    }
    Ok(())
}

fn sonobuoy() -> Result<(), Failed> {
    let plugin: Value = serde_saphyr::from_str(&example("sonobuoy-plugin.yaml")?)?;
    let script = plugin["spec"]["args"][0]
        .as_str()
        .ok_or("it has a script")?;
    let case = |name: &str, body: &str| {
        format!("<testcase classname=\"connectivitychecks\" name=\"{name}\">{body}</testcase>\n")
    };
    let failure = "<failure message=\"Healthy=False: node-1: &quot;hairpin-off&quot; &lt;proven&gt; &amp; more\"/>";
    let none = "<failure message=\"Healthy=Unknown: there is no ConnectivityCheck\"/>";
    for (printed, cases) in [
        (FAILING, case("default", failure) + &case("other", "")),
        (HEALTHY, case("default", "")),
        ("", case("list", none)),
    ] {
        let folder = tempfile::tempdir()?;
        let results = folder.path().display().to_string();
        run(script, printed, &[("SONOBUOY_RESULTS_DIR", &results)])?;
        let done = fs::read_to_string(folder.path().join("done"))?;
        let wanted = format!("<testsuite name=\"prober\">\n{cases}</testsuite>\n");
        same(&fs::read_to_string(done)?, &wanted)?;
    }
    Ok(())
}
