//! What the chart holds of other folders: Helm reads no file outside of a chart.

use libtest_mimic::{Failed, Trial};

use crate::{assert_file, chart, checkout, read};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("the chart has the alerts", || {
            copies("alerts/prober.rules.yaml", "prober.rules.yaml")
        }),
        Trial::test("the chart has the dashboard", || {
            copies("dashboard/prober.json", "prober.json")
        }),
        Trial::test("the chart has the CustomResourceDefinition", definition),
    ]
}

fn copies(from: &str, to: &str) -> Result<(), Failed> {
    let text = read(&checkout().join("deploy").join(from))?;
    assert_file(&chart().join("files").join(to), &text)
}

/// As a template, because Helm never upgrades what is in the folder `crds`.
fn definition() -> Result<(), Failed> {
    let text = read(&checkout().join("deploy/kustomize/crd/connectivitychecks.yaml"))?;
    let name = "metadata:\n  name: connectivitychecks.prober.dev\n";
    let (head, rest) = text.split_once(name).ok_or("the definition has a name")?;
    if rest.contains("{{") {
        return Err("Helm would take a part of the definition for a template".into());
    }
    let (_, head) = head.split_once('\n').ok_or("its first line is a comment")?;
    let template = format!(
        "{{{{- if .Values.crds.install }}}}\n{head}{name}  labels:\n    {{{{- include \"prober.labels\" . | nindent 4 }}}}\n  \
         annotations:\n    helm.sh/resource-policy: keep\n{rest}{{{{- end }}}}\n"
    );
    assert_file(&chart().join("templates/crd.yaml"), &template)
}
