// A real authorization server on a free port of the loopback interface: `oidc-provider` with its own
// login and consent pages, dynamic registration, PKCE, rotating refresh tokens, resource
// indicators, device grant, client credentials, introspection and revocation.
//
//   node authorization_server.mjs [--lifetime SECONDS]
//
// It prints `listening on PORT`, each request that it gets, and what it decides:
//   registered NAME                        a client has registered itself
//   asks login | asks consent              a page was shown
//   issued GRANT scope=… resource=…        the token endpoint gave out tokens
//   secret VALUE                           one of those tokens; nobody else may ever print it
//   refused GRANT ERROR: DETAIL            it did not
//   authorization ERROR: DETAIL            the redirect carries an error
//   revoked grant                          tokens of a grant are void, by request or for a reuse
//   invited device                         a device code was given out
// A test steers it by a POST to
//   /control/lifetime/SECONDS              of access tokens from now on
//   /control/expire                        all access tokens have been valid for long enough
//   /control/revoke                        all grants are void, with their tokens
//   /control/forget                        no client that registered itself is known any more

import http from "node:http";
import { parseArgs } from "node:util";

import Provider from "oidc-provider";

const { values: options } = parseArgs({
  options: {
    lifetime: { type: "string", default: "600" },
  },
});

const say = (text) => console.log(text);
let lifetime = Number(options.lifetime);

// The clients that do not register themselves. The first is the protected server, which asks what
// a token is worth; the others are for those who use the relay with an id that they were given.
const CLIENTS = [
  {
    client_id: "protected-server",
    client_secret: "the secret of the protected server",
    redirect_uris: [],
    grant_types: [],
    response_types: [],
  },
  {
    client_id: "machine",
    client_secret: "a secret: with + signs",
    redirect_uris: [],
    grant_types: ["client_credentials"],
    response_types: [],
    scope: "mcp:read mcp:write",
  },
  {
    client_id: "known-desktop",
    application_type: "native",
    token_endpoint_auth_method: "none",
    redirect_uris: ["http://127.0.0.1/callback"],
    grant_types: ["authorization_code", "refresh_token"],
  },
];

const resourceServer = (resource) => ({
  scope: "mcp:read mcp:write",
  audience: resource,
  accessTokenFormat: "opaque",
  accessTokenTTL: lifetime,
});

const configuration = {
  clients: CLIENTS,
  clientDefaults: { grant_types: ["authorization_code"] },
  cookies: { keys: ["not a secret, for nothing outlives the test"] },
  scopes: ["openid", "offline_access", "mcp:read", "mcp:write"],
  findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    introspection: { enabled: true },
    registration: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_ctx, resource) => resourceServer(resource),
      useGrantedResource: () => true,
    },
    revocation: { enabled: true },
  },
  // By default only for `offline_access`, and that only with `prompt=consent`.
  issueRefreshToken: (_ctx, client) => client.grantTypeAllowed("refresh_token"),
  rotateRefreshToken: true,
  ttl: {
    AccessToken: () => lifetime,
    AuthorizationCode: 60,
    ClientCredentials: () => lifetime,
    DeviceCode: 60,
    Grant: 3600,
    IdToken: 600,
    Interaction: 600,
    RefreshToken: 3600,
    Session: 3600,
  },
};

function listen(provider) {
  const registered = new Set();
  const grants = new Set();
  const accessTokens = new Set();
  const grantType = (ctx) => ctx.oidc?.params?.grant_type ?? ctx.oidc?.body?.grant_type;

  provider.on("registration_create.success", (_ctx, client) => {
    registered.add(client.clientId);
    say(`registered ${client.clientName}`);
  });
  provider.on("access_token.saved", (token) => accessTokens.add(token.jti));
  provider.on("interaction.started", (_ctx, prompt) => say(`asks ${prompt.name}`));
  provider.on("device_authorization.success", () => say("invited device"));
  provider.on("grant.success", (ctx) => {
    const { entities } = ctx.oidc;
    const token = entities.AccessToken ?? entities.ClientCredentials;
    if (token?.grantId) grants.add(token.grantId);
    say(`issued ${grantType(ctx)} scope=${token?.scope ?? ""} resource=${token?.aud ?? ""}`);
    for (const name of ["access_token", "refresh_token"]) {
      if (ctx.body[name]) say(`secret ${ctx.body[name]}`);
    }
  });
  provider.on("grant.error", (ctx, err) => {
    // A device that asks before the user has decided is no refusal.
    if (err.error === "authorization_pending") say("device waits");
    else say(`refused ${grantType(ctx)} ${err.error}: ${err.error_detail ?? err.error_description}`);
  });
  provider.on("authorization.error", (_ctx, err) =>
    say(`authorization ${err.error}: ${err.error_description}`),
  );
  provider.on("registration_create.error", (_ctx, err) =>
    say(`refused registration ${err.error}: ${err.error_description}`),
  );
  provider.on("revocation.error", (_ctx, err) => say(`refused revocation ${err.error}`));
  provider.on("grant.revoked", () => say("revoked grant"));
  provider.on("server_error", (_ctx, err) => say(`defect ${err.stack}`));

  return async (what, value) => {
    switch (what) {
      case "lifetime":
        lifetime = Number(value);
        break;
      case "expire":
        for (const id of accessTokens) await provider.AccessToken.adapter.destroy(id);
        accessTokens.clear();
        break;
      case "revoke":
        for (const id of grants) {
          await provider.AccessToken.revokeByGrantId(id);
          await provider.RefreshToken.revokeByGrantId(id);
          await provider.Grant.adapter.destroy(id);
        }
        grants.clear();
        break;
      case "forget":
        for (const id of registered) await provider.Client.adapter.destroy(id);
        registered.clear();
        break;
      default:
        throw new Error(`no such control: ${what}`);
    }
  };
}

const server = http.createServer();
server.listen(0, "127.0.0.1", () => {
  const { port } = server.address();
  const provider = new Provider(`http://127.0.0.1:${port}`, configuration);
  const control = listen(provider);
  const callback = provider.callback();
  server.on("request", async (request, response) => {
    const path = request.url.split("?")[0];
    const [, isControl, what, value] = path.match(/^(\/control)\/(\w+)(?:\/(.+))?$/) ?? [];
    if (isControl) {
      await control(what, value);
      response.writeHead(204).end();
      return;
    }
    say(`${request.method} ${path}`);
    callback(request, response);
  });
  say(`listening on ${port}`);
});
