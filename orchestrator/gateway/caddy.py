"""Settings -> the text of Caddy's configuration file. One block serves every static Space, found by a link per host.

Caddy listens on a Unix socket in the run folder (its working folder) behind Envoy, and has no admin interface. It
writes nothing but its own small state below the run folder.
"""

from orchestrator.gateway.hosts import INTERNAL_DOMAIN
from orchestrator.settings import Settings

_TEMPLATE = """\
{
	admin off
	auto_https off
	persist_config off
	storage file_system caddy-state
	default_bind unix/caddy.sock|0600
	log {
		level ERROR
	}
	servers {
		protocols h1
	}
}

http:// {
	# A host name becomes a path below, so whatever is not plainly a host name is refused first.
	@odd not header_regexp Host ^[a-z0-9_-]+([.][a-z0-9_-]+)+(:[0-9]+)?$
	respond @odd 404

	# Other Spaces know this one by a name that is not loopback.
	@inside header_regexp inside Host ^([a-z0-9-]+)[.]@INTERNAL@(:[0-9]+)?$
	root * ../sites/{host}
	root @inside ../sites/{re.inside.1}.@SPACES@

	file_server {
		hide .git
	}
	handle_errors 404 {
		rewrite * /404.html
		file_server {
			status 404
		}
	}
}
"""


def render(settings: Settings) -> str:
    """The configuration file."""
    text = _TEMPLATE.replace("@INTERNAL@", INTERNAL_DOMAIN.replace(".", "[.]"))
    return text.replace("@SPACES@", settings.spaces_domain.lower())
