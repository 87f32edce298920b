// A real Express application. It answers with the name of the handler that a request reached, and prints its port.
const express = require("express");

const app = express();
app.get("/admin", (request, response) => response.send("admin"));
app.get("/admin/reports", (request, response) => response.send("reports"));
app.use((request, response) => response.send("other"));
const server = app.listen(0, "127.0.0.1", () => console.log(server.address().port));
