"""Access to the store and to a landing zone on S3: one set of options, and one client.

Clients with settings of their own drift apart, and then the listing works where the reading fails. So these
options are the only source, TileDB's `vfs.s3.*` follow from them, and whoever goes to S3 takes the store's
client of that context. They are those of dagster-aws's S3 resource, by name and meaning, and one that a
project has already is taken over whole (`StorageResource.like`). It is not the parent class: importing it
takes longer than importing Dagster, in every process, and its boto3 client would not be used.
Secrets are no option here: they are taken from the environment (or the AWS chain behind it).
"""

# No postponed annotations here: Dagster reads the type of a nested resource when the class is made.
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field, PrivateAttr

from radiobject_assets.errors import ConfigurationError
from radiobject_assets.resources.memory_resource import MemoryBudgetResource

if TYPE_CHECKING:
    from dagster_aws.s3 import S3Resource

    from radiobject_assets.store import RadiObjectConfig, S3Config, TileDBContext

_SHARED = (
    *("region_name", "endpoint_url", "profile_name", "use_unsigned_session", "use_ssl", "verify"),
    "max_attempts",
)
"""Options that dagster-aws's S3 resource has too."""
SECRET_OPTIONS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")


class StorageResource(dg.ConfigurableResource[Any]):
    """Where stores are: local disk needs no option."""

    memory: dg.ResourceDependency[MemoryBudgetResource]
    region_name: str | None = Field(default=None, description="Region of the buckets.")
    endpoint_url: str | None = Field(default=None, description="Server that speaks S3, where not Amazon's.")
    profile_name: str | None = Field(default=None, description="Profile of the AWS configuration files.")
    use_unsigned_session: bool = Field(default=False, description="Without credentials: public buckets only.")
    use_ssl: bool = Field(default=True, description="TLS, where the endpoint doesn't say http or https.")
    verify: bool | None = Field(
        default=None, description="Whether certificates are verified. Default: they are."
    )
    max_attempts: int = Field(default=5, ge=1, description="Tries of a request, the first one counted.")
    use_virtual_addressing: bool | None = Field(
        default=None,
        description="Bucket in the host name. Default: only where no endpoint is given.",
    )
    connect_timeout_ms: int = Field(
        default=5_000, ge=100, description="Milliseconds to wait for a connection."
    )
    request_timeout_ms: int = Field(default=10_000, ge=100, description="Milliseconds to wait for an answer.")
    deadline_s: float = Field(
        default=60.0, gt=0, description="Seconds after which storage that gives no answer is an error."
    )

    _ctx: "TileDBContext | None" = PrivateAttr(default=None)
    _config_before: "RadiObjectConfig | None" = PrivateAttr(default=None)

    def __init__(self, **options: Any) -> None:
        # Options are kept with every run and shown in the UI; a pydantic validator would print the secret.
        given = [name for name in SECRET_OPTIONS if options.get(name) is not None]
        if given:
            raise ConfigurationError(
                f"storage: {', '.join(given)} can't be set here; credentials are taken from the environment "
                "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN) or the AWS configuration files"
            )
        super().__init__(**options)

    @classmethod
    def like(cls, s3: "S3Resource", memory: MemoryBudgetResource, **options: Any) -> "StorageResource":
        """The storage with the options of an S3 resource that a project has already.

        Parameters
        ----------
        s3
            Secrets are not among what is taken over: one that has them is refused.
        options
            Those that dagster-aws does not know, as `deadline_s`.

        Raises
        ------
        ConfigurationError
            `s3` holds credentials.
        """
        given = {name: getattr(s3, name) for name in (*_SHARED, *SECRET_OPTIONS)}
        return cls(memory=memory, **{k: v for k, v in given.items() if v is not None}, **options)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Make the TileDB context of this step's process, and these options that of its worker processes."""
        from radiobject_assets.store import get_radiobject_config, set_radiobject_config

        self._config_before = get_radiobject_config()
        set_radiobject_config(self.config)
        self._ctx = self._make_ctx()

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Let go of the context and put the process's own options back."""
        from radiobject_assets.store import set_radiobject_config

        if self._config_before is not None:
            set_radiobject_config(self._config_before)
        self._ctx = self._config_before = None

    @property
    def ctx(self) -> "TileDBContext":
        """The TileDB context; one for a step's process, to be passed on explicitly."""
        if self._ctx is None:
            self._ctx = self._make_ctx()
        return self._ctx

    @property
    def config(self) -> "RadiObjectConfig":
        """The same options in the store's own form, fit to be sent to worker processes."""
        from radiobject_assets.store import RadiObjectConfig, ReadConfig

        budget = self.memory.budget()
        return RadiObjectConfig(
            read=ReadConfig(
                memory_budget_mb=max(64, budget.tiledb_bytes // 2**20),
                tile_cache_size_mb=budget.tile_cache_bytes // 2**20,
            ),
            s3=self._s3_config(),
        )

    def _s3_config(self) -> "S3Config":
        from radiobject_assets.store import S3Config

        endpoint, virtual = self.endpoint_url, self.use_virtual_addressing
        if endpoint is not None and "://" not in endpoint:
            endpoint = f"{'https' if self.use_ssl else 'http'}://{endpoint}"
        options: dict[str, Any] = {"region": self.region_name} if self.region_name else {}
        return S3Config(
            **options,
            endpoint=endpoint,
            use_virtual_addressing=endpoint is None if virtual is None else virtual,
            include_credentials=not self.use_unsigned_session,
            profile=self.profile_name,
            max_tries=self.max_attempts,
            connect_timeout_ms=self.connect_timeout_ms,
            request_timeout_ms=self.request_timeout_ms,
            deadline_s=self.deadline_s,
        )

    def _make_ctx(self) -> "TileDBContext":
        from radiobject_assets.store import make_ctx

        settings: dict[str, str] = {}
        if self.use_unsigned_session:
            settings["vfs.s3.no_sign_request"] = "true"
        if self.verify is not None:
            settings["vfs.s3.verify_ssl"] = str(self.verify).lower()
        return make_ctx(self.config, **settings)
