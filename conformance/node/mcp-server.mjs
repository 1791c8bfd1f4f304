// An MCP server of one tool, made with the MCP TypeScript SDK, that knows nothing of logins: it
// stands behind the gateway.
import http from "node:http";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";

http
  .createServer(async (request, answer) => {
    if (request.method !== "POST") {
      answer.writeHead(405).end();
      return;
    }
    // Nothing is remembered between requests: one server and transport each.
    const server = new McpServer({ name: "stage", version: "1.0.0" });
    server.registerTool("greet", { description: "Says hello" }, () => ({ content: [{ type: "text", text: "hello from a tool" }] }));
    const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined, enableJsonResponse: true });
    await server.connect(transport);
    await transport.handleRequest(request, answer);
  })
  .listen(Number(process.env.MCP_PORT), "127.0.0.1");
