"""Conversion Guard, an admission webhook for Forklift conversion migrations: the package map.

Upper lines import lower ones, never the reverse.

__main__   python -m webhook
cli        the commands: composition roots, which plug everything together
server     the two admission paths, health; size cap, deadline, the one catch-all
api        the vendors' REST API: tokens, rights, problem details, OpenAPI
serving    HTTPS: limits against slow clients, the end; the only importer of uvicorn
cache      what is known of vSphere, kept in a folder for the next start
tls        the serving certificate, kept right; the only importer of cryptography
vsphere    a live vCenter; the only importer of pyVmomi and of SOAP
cluster    Providers, Secrets, PVCs, Plans; the only importer of the kubernetes client
readiness  whether a Plan's VMs have their disks by now
manifests  YAML and JSON files -> objects with their lines
check      objects judged before anybody applies them: the same JSON for every door
render     a VM's PVC manifests, and its disks as a vendor needs them
reference  what the rules say of themselves
listed     a cluster as it will be once the objects of a list are in it
decide     the engine: decide(review, sources, deadline) -> Verdict
gather     what a review asks, and the facts for it
review     the AdmissionReview codec, and the three verdicts
rules      RULES and DEFAULTS, a file each
telling    a proof in words, as far as its reader may know
rule       what a rule sees and says
proof      a VM's whole disk set against its PVCs: one pure function
policy     what the operator chose, and what comes of it for one object
kube       what is known of the cluster, and what it can be asked
confirm    fresh reads for denials: shared, short-lived, limited
inventory  the index over VMs, its age, and snapshot files
settings   file and environment -> frozen Settings
quantity   Kubernetes quantities
observe    metrics and logs
model      the keys, and the frozen values that everything speaks of
errors     the exception tree
"""

__version__ = "0.1.0"
