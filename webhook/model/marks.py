"""The marks of a PVC whose conversion is over: a copy of a converted one, labels and all.

Each was read in the source that is named beside it. What could not be read is not here: Kasten's
source is closed, and VolSync puts no mark of its own on a PVC that carries another's labels.
The condition `not-past-its-conversion` of both webhook configurations has the same, so that a copy
is created also while the guard is down.
"""

BOUND = "pv.kubernetes.io/bind-completed"
"""At creation: the copy of an object that was bound (Kubernetes: pv_controller.go)."""

OWNER_KINDS = frozenset(
    {
        "VirtualMachine",  # Forklift: plan/kubevirt.go, EnsureVM; KubeVirt's restores
        "DataVolume",  # CDI's clones, and KubeVirt's storage migration
    }
)
ANNOTATIONS = frozenset(
    {
        # KubeVirt: pkg/storage/snapshot/restore.go, restoreNameAnnotation
        "restore.kubevirt.io/name",
        # Ramen: internal/controller/vrg_volrep.go, addRestoreAnnotation
        "volumereplicationgroups.ramendr.openshift.io/ramen-restore",
        # Ramen over VolSync: internal/controller/util/pvcs_util.go, SyncPVCAnnotations
        "ramendr.openshift.io/managed-annotation-keys",
        # Stork: pkg/migration/controllers/migration.go, StorkMigrationAnnotation
        "stork.libopenstorage.org/migrated",
    }
)
LABELS = frozenset(
    {
        # Velero: pkg/restore/restore.go, addRestoreLabels
        "velero.io/restore-name",
        # MTC: pkg/controller/directvolumemigration/pvcs.go, createDestinationPVCDefinition
        "migration.openshift.io/migrated-by-migmigration",
        "migration.openshift.io/migrated-by-directvolumemigration",
    }
)
