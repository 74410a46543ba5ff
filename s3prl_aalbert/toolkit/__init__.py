"""The only room that imports s3prl: compatibility, registration, running, linking.

``activate()`` makes S3PRL import under the installed torch and know the plugin's names::

    from s3prl_aalbert import toolkit
    toolkit.activate()
    from s3prl.nn import S3PRLUpstream
    model = S3PRLUpstream("aalbert_local", path_or_url="model.ckpt")
"""


def activate() -> None:
    """Apply the compatibility workarounds, then register the upstreams and downstream tasks.

    Safe to call more than once.

    Raises:
        AalbertError: a name of the plugin already belongs to something else in S3PRL.
    """
    from s3prl_aalbert.toolkit import register
    from s3prl_aalbert.toolkit.repairs import imports, tasks

    imports.apply()
    register.register()
    tasks.install()
